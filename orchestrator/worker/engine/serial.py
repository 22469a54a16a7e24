"""The thread that runs handlers: takes events, runs them, sends what they caused, settles. DESIGN section 4.

Rules:
- A batch of good events runs through `_run_fresh` without an object per event that outlives it; only an event that
  fails becomes a `Pending` in a lane.
- Nothing settles before the receipts of everything it caused are in (`ProducerBarrier.wait`). That is one barrier for
  the fresh events of all partitions that have some: a turn of the loop. A lane's head has one to itself.
- If a receipt is an error, the event it belongs to and the later ones of its lane run again, in order.
- Nothing here blocks the thread that polls. What that thread decides (draining, the end of an epoch) is looked up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from orchestrator.config.model import Handler
from orchestrator.delivery.lanes import Lane, lane_of
from orchestrator.delivery.offsets.frontier import Frontier
from orchestrator.delivery.outcome import Failed, Park
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.pending import EventId, Pending
from orchestrator.records import Record
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.engine.attempts import Attempts, identify, judge
from orchestrator.worker.engine.flow_control import FlowControl
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.produce.barrier import Barrier, SettlementPlan, Waiting
from orchestrator.worker.produce.batch import Batch

#: A partition's turn ends after so many events, and all partitions' after so many seconds, so that settling never waits
#: long for a slow handler.
BATCH_EVENTS = 1_000
BATCH_SECONDS = 0.25
#: A copy whose original is in progress under another key looks again so often (seconds).
COPY_WAIT_SECONDS = 0.05
#: An event under suspicion lets others go first for so long (seconds): if they end well, it is not the world that is
#: broken.
SUSPECT_SECONDS = 0.5
#: How long the thread sleeps when there is nothing to do and nothing is due (seconds).
IDLE_SECONDS = 0.5
_OFFSET: Callable[[Record], int] = itemgetter(2)


class Ran(NamedTuple):
    """A batch of fresh events that have run; `position` is behind the last one that was looked at."""

    batch: Batch
    source: Input
    position: int


class SerialEngine(threading.Thread):
    """Runs the events of all owned partitions through one handler, one at a time."""

    def __init__(
        self,
        handler: Handler,
        sources: Mapping[str, Input],
        ledger: Assignments,
        attempts: Attempts,
        receipts: Barrier,
        facts: WorkerEvents,
        guard: FlowControl,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="handlers", daemon=True)
        self._handler = handler
        self._sources = sources
        self._ledger = ledger
        self._attempts = attempts
        self._receipts = receipts
        self._facts = facts
        self._guard = guard
        #: How many events a batch may have now: one while the breaker is half-open.
        self._most = BATCH_EVENTS
        self._clock = clock
        self._stopping = False
        self._tries = 0
        #: Whose turn is first: where the last one's time was over.
        self._first = 0
        #: What ended the thread though nobody asked it to.
        self.error: BaseException | None = None

    def stop(self) -> None:
        """End after the event that runs now, without waiting for receipts that do not come."""
        self._stopping = True
        self._ledger.work.set()

    def run(self) -> None:
        try:
            self._receipts.open(self._stops)
            while not self._stopping:
                self._ledger.work.clear()
                busy = self.turn()
                self._receipts.tidy(self._stops)
                if not busy:
                    self._ledger.work.wait(self._patience())
        except BaseException as e:  # noqa: BLE001 - handed to the thread that polls, which ends the process with it
            self.error = e
            for part in self._ledger.partitions:
                self._abandon(part, part.running)
        finally:
            self._attempts.close()

    def _stops(self) -> bool:
        return self._stopping

    def overdue(self, now: float) -> tuple[Record | None, float]:
        """An event that runs and by how many seconds it has passed its deadline (negative: it has not)."""
        deadline = self._attempts.deadline
        return self._attempts.running, now - deadline if deadline else -1.0

    def turn(self) -> bool:
        """Give every partition a turn; whether any had something to do. A half-open breaker lets one event try."""
        admitted = self._guard.admits()
        if admitted == "none":
            return False
        self._most = 1 if admitted == "one" else BATCH_EVENTS
        busy = False
        ran: list[Ran] = []
        ends = self._clock() + BATCH_SECONDS
        for number, part in enumerate(self._in_turn(admitted)):
            if self._guard.halted or (busy and admitted == "one"):
                break
            if ran and self._clock() > ends:
                self._first += number
                break
            fresh_first = admitted == "one" and part.fresh and part.room(1)
            lane = None if fresh_first else part.lanes.pop_due(self._clock())
            if lane is not None:
                self._settle_all(ran)
                ran = []
                busy |= self._run_lane(part, lane)
            elif part.fresh and part.room(BATCH_EVENTS):
                batch = self._run_fresh(part, ends)
                ran += batch
                busy |= bool(batch)
            elif part.end > part.frontier.position:
                self._ledger.idle(part)
        self._settle_all(ran)
        return busy

    def _in_turn(self, admitted: Literal["all", "one", "none"]) -> Sequence[Partition]:
        """The partitions, in the order in which they may run something.

        While the breaker lets one event try it is each time another one, and one that was not tried before if there is:
        an event that hangs again and again must not be all that is ever asked.
        """
        parts = self._ledger.partitions
        if not parts:
            return parts
        if admitted != "one":
            first = self._first = self._first % len(parts)
            return (*parts[first:], *parts[:first]) if first else parts
        self._tries = (self._tries + 1) % len(parts)
        return sorted((*parts[self._tries :], *parts[: self._tries]), key=lambda part: not part.fresh)

    def _patience(self) -> float:
        """Seconds until something is due by itself."""
        if self._guard.halted:
            return min(IDLE_SECONDS, self._guard.patience())
        due = [at for part in self._ledger.partitions if (at := part.lanes.next_due()) is not None]
        return max(0.0, min(IDLE_SECONDS, min(due) - self._clock())) if due else IDLE_SECONDS

    # -- fresh events ---------------------------------------------------------------------------------------------

    def _run_fresh(self, part: Partition, ends: float) -> list[Ran]:
        """Run fresh events of `part` until it is time, at most a batch; empty when none may start."""
        if not self._ledger.begin(part):
            return []
        batch = Batch(part)
        source = self._sources[part.tp.topic]
        fresh = part.fresh
        room = part.room(self._most)
        position = part.frontier.position
        while fresh and room and not part.draining:
            ran, at = self._run_happily(part, source, batch, room, ends - self._clock())
            if not ran:
                if not self._take(part, source, fresh[0], batch):
                    break
                ran, at = 1, fresh.popleft().offset
            position = at + 1
            room -= ran
            if self._guard.halted or self._clock() > ends:
                break
        return [Ran(batch, source, position)]

    def _run_happily(self, part: Partition, source: Input, batch: Batch, most: int, seconds: float) -> tuple[int, int]:
        """Run fresh events as long as each is plainly good; how many, and the last one's offset."""
        calm = not (batch.given_up or part.suspects or len(part.lanes))
        if not (calm and source.plain and self._attempts.untroubled):
            return 0, -1
        before = len(batch.records)
        failed = self._attempts.happy.run(source, batch, most, seconds)
        ran = len(batch.records) - before
        last = batch.records[-1].offset if ran else -1
        if failed is not None:
            self._fail_fresh(part, source, *failed, batch)
            part.fresh.popleft()
        return ran, last

    def _take(self, part: Partition, source: Input, record: Record, batch: Batch) -> bool:
        """Run, hold, skip or bury one fresh event. False: it has to wait until the batch so far is settled."""
        value = judge(source, record)
        if isinstance(value, Failed):
            batch.add(record)
            self._attempts.bury_broken(source, Pending(record, None), value, batch)
            return True
        event_id = identify(source, self._handler.dedup, record, value)
        if event_id is not None and event_id in batch.ids:
            return False
        if event_id is not None and self._is_copy(part, event_id, record):
            batch.add(record)
            batch.mark_skipped()
            return True
        if batch.given_up and self._lane_key(record) in batch.given_up:
            return False
        if len(part.lanes) and self._wait_behind(part, Pending(record, event_id)):
            batch.held.append(record.offset)
            return True
        if part.suspects and record.offset in part.suspects:
            part.lanes.block(self._lane_key(record), [Pending(record, event_id)], self._clock() + SUSPECT_SECONDS)
            batch.held.append(record.offset)
            return True
        batch.add(record, event_id)
        failed = self._attempts.run(source, record, event_id, value, 1, batch)
        if failed is not None:
            self._fail_fresh(part, source, Pending(record, event_id), failed, batch)
        return True

    def _fail_fresh(self, part: Partition, source: Input, pending: Pending, failed: Failed, batch: Batch) -> None:
        parked = self._attempts.fail(source, pending, failed, batch)
        if parked is None:
            batch.given_up.add(self._lane_key(pending.record))
        else:
            batch.take_back(pending.event_id)
            batch.held.append(pending.record.offset)
            part.lanes.block(self._lane_key(pending.record), [pending], self._clock() + parked.delay)

    def _settle_all(self, ran: Sequence[Ran]) -> None:
        """Wait for the receipts of all that has run, and settle each partition's events."""
        if not ran:
            return
        waiting = [Waiting(one.batch, partial(self._plan_fresh, one)) for one in ran]
        for one, may_settle in zip(ran, self._receipts.wait(waiting, self._stops), strict=True):
            if may_settle:
                self._settle_fresh(one)
            else:
                self._abandon(one.batch.part)

    def _settle_fresh(self, ran: Ran) -> None:
        """Settle all but the events that went into lanes, those that go there now because of a receipt included."""
        batch, source, position = ran
        part = batch.part
        again = self._again(part, source, batch) if batch.failures else {}
        settled, ended_as = batch.settled(but=again)
        batch.held.extend(again)
        if self._ledger.finish(part, settled, ended_as, partial(_pass, batch.held, position)):
            self._take_ids(part, batch, again)
            self._guard.passed(ended_as.done)

    def _plan_fresh(self, ran: Ran) -> SettlementPlan:
        """Where the barrier leads, by what has failed so far."""
        batch, _, position = ran
        left_out = self._left_out(batch) if batch.failures else ()
        again = [batch.records[i].offset for i in left_out]
        settled, ended_as = batch.settled(but=again)
        move = partial(_pass, [*batch.held, *again], position)
        return SettlementPlan(left_out, self._ledger.preview(batch.part, settled, ended_as, move))

    def _left_out(self, batch: Batch) -> list[int]:
        """The indices of events whose receipts failed and of the later ones of their lanes."""
        keys: set[Hashable] = set()
        found = []
        for index, record in enumerate(batch.records):
            key = self._lane_key(record)
            if index in batch.failures:
                keys.add(key)
            if key in keys:
                found.append(index)
        return found

    def _again(self, part: Partition, source: Input, batch: Batch) -> dict[int, Pending]:
        """Events whose receipts failed and the later ones of their lanes, back in lanes; by offset."""
        lanes: dict[Hashable, list[Pending]] = {}
        delays: dict[Hashable, float] = {}
        for index in self._left_out(batch):
            record = batch.records[index]
            key = self._lane_key(record)
            failure = batch.failures.get(index)
            pending = batch.buried.get(index) or self._pending_of(source, record)
            if failure is not None:
                delay = self._attempts.note_send_failure(source, pending, failure, batch)
                delays.setdefault(key, delay)
            lanes.setdefault(key, []).append(pending)
        for key, pendings in lanes.items():
            part.lanes.block(key, pendings, self._clock() + delays[key])
        return {p.record.offset: p for pendings in lanes.values() for p in pendings}

    def _pending_of(self, source: Input, record: Record) -> Pending:
        value = judge(source, record)
        if isinstance(value, Failed):
            return Pending(record, None)
        return Pending(record, identify(source, self._handler.dedup, record, value))

    # -- events in lanes ------------------------------------------------------------------------------------------

    def _run_lane(self, part: Partition, lane: Lane) -> bool:
        """Run the head of a due lane and, while all goes well, those behind it."""
        if not self._ledger.begin(part):
            return False
        batch = Batch(part)
        source = self._sources[part.tp.topic]
        ends = self._clock() + BATCH_SECONDS
        due = 0.0
        for pending in islice(lane.queue, self._most):
            if part.draining or self._guard.halted or pending.event_id in batch.ids or batch.given_up:
                break
            alone = pending.alone or pending.record.offset in part.suspects
            if alone and batch.records:
                break
            parked = self._resume(part, source, pending, batch)
            if parked is not None:
                due = self._clock() + parked.delay
                break
            if alone or self._clock() > ends:
                break
        waiting = Waiting(batch, partial(self._plan_lane, part, batch))
        if all(self._receipts.wait([waiting], self._stops)):
            self._settle_lane(part, source, lane, batch, due)
        else:
            self._abandon(part)
        return True

    def _resume(self, part: Partition, source: Input, pending: Pending, batch: Batch) -> Park | None:
        """Run one event of a lane; the wait that follows if it is still not settled."""
        record = pending.record
        # Decoded anew for each run: what the handler was given before, it may have changed.
        value = judge(source, record)
        if pending.buried is not None:
            batch.add(record, pending.event_id)
            batch.given_up.add(self._lane_key(record))
            self._attempts.send_letter(source, pending, batch)
        elif isinstance(value, Failed):
            batch.add(record)
            self._attempts.bury_broken(source, pending, value, batch)
        elif pending.event_id is not None and self._is_copy(part, pending.event_id, record):
            batch.add(record)
            batch.mark_skipped()
        elif self._original_runs_elsewhere(part, pending):
            return Park(COPY_WAIT_SECONDS, spend=False)
        else:
            return self._retry(source, pending, value, batch)
        return None

    def _retry(self, source: Input, pending: Pending, value: Any, batch: Batch) -> Park | None:
        batch.add(pending.record, pending.event_id)
        failed = self._attempts.run(source, pending.record, pending.event_id, value, pending.attempts + 1, batch)
        parked = None if failed is None else self._attempts.fail(source, pending, failed, batch)
        if parked is not None:
            batch.take_back(pending.event_id)
        elif failed is not None:
            batch.given_up.add(self._lane_key(pending.record))
        return parked

    def _plan_lane(self, part: Partition, batch: Batch) -> SettlementPlan:
        first = min(batch.failures, default=len(batch.records))
        settled, ended_as = batch.settled(until=first)
        left_out = range(first, len(batch.records))
        return SettlementPlan(left_out, self._ledger.preview(part, settled, ended_as, partial(release, settled)))

    def _settle_lane(self, part: Partition, source: Input, lane: Lane, batch: Batch, due: float) -> None:
        """Settle the events of the lane up to the first failed receipt; from there on they run again."""
        first = min(batch.failures, default=len(batch.records))
        settled, ended_as = batch.settled(until=first)
        if first < len(batch.records):
            delay = self._attempts.note_send_failure(source, lane.queue[first], batch.failures[first], batch)
            due = self._clock() + delay

        suspected = bool(part.suspects) and any(r.offset in part.suspects for r in settled)
        if self._ledger.finish(part, settled, ended_as, partial(release, settled)):
            for _ in settled:
                part.lanes.settle_head(lane)
            self._take_ids(part, batch, {r.offset for r in batch.records[first:]})
            self._guard.passed(ended_as.done)
            if lane.queue:
                part.lanes.set_due(lane, due)
            if suspected:
                self._attempts.suspects_settled(part)

    # -- both -----------------------------------------------------------------------------------------------------

    def _abandon(self, part: Partition, runs: int = 1) -> None:
        """The epoch or the worker ended before the receipts were in: whoever comes next runs these events again."""
        self._ledger.abandon(part, runs, stop=True)

    def _lane_key(self, record: Record) -> Hashable:
        return lane_of(record, self._handler.ordering)

    def _wait_behind(self, part: Partition, pending: Pending) -> bool:
        """Queue the event if its lane is blocked, or if it is a copy of one in progress in another lane."""
        key = self._lane_key(pending.record)
        lane = part.lanes.get(key)
        if lane is not None:
            part.lanes.append(lane, pending)
        elif self._original_runs_elsewhere(part, pending):
            part.lanes.block(key, [pending], self._clock() + COPY_WAIT_SECONDS)
        else:
            return False
        return True

    def _original_runs_elsewhere(self, part: Partition, pending: Pending) -> bool:
        lane = None if pending.event_id is None else part.lanes.lane_in_progress(pending.event_id)
        return lane is not None and lane.key != self._lane_key(pending.record)

    def _is_copy(self, part: Partition, event_id: EventId, record: Record) -> bool:
        seen = "new" if part.dedup is None else part.dedup.look(event_id, record.timestamp, hash(record.value))
        if seen == "new":
            return False
        self._facts.meter.copies += 1
        if seen == "other-payload":
            self._facts.copied(record, event_id)
        return True

    def _take_ids(self, part: Partition, batch: Batch, but: Mapping[int, object] | set[int]) -> None:
        """The ids of what settled are taken from now on."""
        if part.dedup is None:
            return
        ids = {of: record for of, record in batch.ids.items() if record.offset not in but} if but else batch.ids
        part.dedup.take_all(ids)


def _pass(held: Sequence[int], position: int, frontier: Frontier) -> None:
    """Everything up to `position` is dispatched; what is `held` is not settled."""
    for offset in held:
        frontier.hold(offset)
    frontier.advance(position)


def release(settled: Sequence[Record], frontier: Frontier) -> None:
    """These were held, and are settled now."""
    frontier.release(*map(_OFFSET, settled))
