"""`concurrency: N`: the same loop with up to N events at once, of different lanes. DESIGN section 5, step 13.

Rules:
- Every event that runs is the head of its lane; whoever comes after it in its lane queues behind.
- Every event that was dispatched is held in the frontier until it settled, so that commits stay behind it.
- One turn: take the answers there are, start the next ones, send what the answers ask for, wait for the receipts,
  settle. So the next ones run meanwhile. Where something failed, settle first: it may say that nothing else may start.
- An event in quarantine runs in a thread of its own, one at a time, while the others go on.
- A partition's epoch may end while its events run: their answers are dropped, and nothing they ask for is sent.
- The first answer to an event counts, and no other one.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any, Literal

from orchestrator.delivery.headers.lineage import stamper
from orchestrator.delivery.lanes import Lane, lane_of
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.pending import Pending, known_as
from orchestrator.event import Emit, Event
from orchestrator.records import Record
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.engine.attempts import identify, judge
from orchestrator.worker.engine.in_flight import Apart, Ended, EventsInFlight, Unrun
from orchestrator.worker.engine.lookahead import Lookahead
from orchestrator.worker.engine.pool import Pool
from orchestrator.worker.engine.serial import COPY_WAIT_SECONDS, SUSPECT_SECONDS, SerialEngine, release
from orchestrator.worker.produce.barrier import SettlementPlan, Waiting
from orchestrator.worker.produce.batch import Batch


def _offset(answered: tuple[EventsInFlight, Any]) -> int:
    return answered[0].pending.record.offset


class ConcurrentEngine(SerialEngine):
    """A `SerialEngine` whose events run in a pool."""

    def __init__(
        self, *parts: Any, pool: Callable[[], Pool[EventsInFlight]], apart: type[Apart] = Apart, **more: Any
    ) -> None:
        """`pool` and `apart` are called once, when they are first needed."""
        super().__init__(*parts, **more)
        self._make_pool = pool
        self._pool: Pool[EventsInFlight] | None = None
        self._running: set[EventsInFlight] = set()
        self._make_apart = apart
        self._apart: Apart | None = None
        self._unrun: list[tuple[EventsInFlight, Unrun | Failed]] = []
        self._turns = 0
        self._ahead = Lookahead(None if self._handler.dedup is None else self._handler.dedup.by)

    def turn(self) -> bool:
        """Settle what has been answered, and start what may run; whether there was anything to do."""
        pool = self._pool = self._pool or self._make_pool()
        answered = self._answers(pool)
        calm = not self._guard.troubled and all(type(answer) is list for _, answer in answered)
        moved = self._dispatch(pool) if calm else 0
        if answered:
            self._conclude(answered)
        if not calm:
            moved = self._dispatch(pool)
        return moved > 0 or bool(answered)

    def run(self) -> None:
        super().run()
        if self._apart is not None:
            self._apart.close()
        if self._pool is not None:
            self._pool.close()

    def overdue(self, now: float) -> tuple[Record | None, float]:
        oldest = min(tuple(self._running), key=lambda r: r.deadline, default=None)
        return (None, -1.0) if oldest is None else (oldest.pending.record, now - oldest.deadline)

    # -- starting -------------------------------------------------------------------------------------------------

    def _dispatch(self, pool: Pool[EventsInFlight]) -> int:
        """Start events until as many run as may; how many were started or put into lanes."""
        admitted = self._guard.admits()
        most = {"all": pool.size, "one": 1, "none": 0}[admitted]
        moved = 0
        parts = self._in_turn(admitted)
        if admitted == "all" and parts:
            # Whoever comes first takes all the room there is: each turn it is another one.
            self._turns = first = (self._turns + 1) % len(parts)
            parts = (*parts[first:], *parts[:first])
        for part in parts:
            room = part.room(most)
            while (free := most - len(self._running) - len(self._unrun)) > 0:
                plain = self._start_plain(part, pool, min(room, free)) if admitted == "all" else 0
                if plain:
                    room -= plain
                    moved += plain
                    continue
                started = self._start_next(part, pool, room, fresh_first=admitted == "one")
                if started is None:
                    break
                room -= started == "fresh"
                moved += 1
            if part.end > part.frontier.position:
                self._ledger.idle(part)
        return moved

    def _start_plain(self, part: Partition, pool: Pool[EventsInFlight], most: int) -> int:
        """Start the next fresh events, if each is plainly good and nobody else of its lane or id is there; how many.

        The same as `_start_fresh`, without a look at what cannot be. It may be fewer than could start.
        """
        source, lanes, fresh = self._sources[part.tp.topic], part.lanes, part.fresh
        due = lanes.next_due()
        calm = source.plain and self._attempts.untroubled and not part.suspects
        if not (calm and fresh) or (due is not None and due <= self._clock()):
            return 0
        records = self._ahead.take(fresh, most)
        valid = None if source.contract is None else source.contract.check
        tables = () if part.dedup is None else part.dedup.tables()
        values, ids = self._ahead.known(records, valid, tables, lanes.ids)
        keys = [lane_of(record, self._handler.ordering) for record in records[: len(values)]]
        count = lanes.free(keys)
        self._ahead.went(well=count == len(records))
        if not count or not self._ledger.dispatch_all(part, [record.offset for record in records[:count]]):
            return 0
        pendings = list(map(Pending, records[:count], ids))
        timeout, began = self._handler.timeout, self._clock()
        until = None if timeout == math.inf else time.time() + timeout
        begun = lanes.begin(keys[:count], pendings)
        for record, value, pending, lane in zip(records, values, pendings, begun, strict=False):
            fresh.popleft()
            running = EventsInFlight(part, source, lane, pending, math.inf)
            running.began = began
            self._running.add(running)
            if not pool.outside:
                running.deadline = began + timeout
                running.slot = self._attempts.note_start(part, record, running.deadline)
            pool.start(Event(record, value, source.topic, known_as(pending.event_id), 1, until), running)
        return count

    def _start_next(
        self, part: Partition, pool: Pool[EventsInFlight], room: int, *, fresh_first: bool
    ) -> Literal["due", "fresh"] | None:
        """Start a lane's head or a fresh event; which of them it was. Only fresh ones need `room` in the metadata: a
        head that settles adds no range to it, and where there is none left nothing but heads can make some."""
        if fresh_first and room > 0 and self._start_fresh(part, pool):
            return "fresh"
        if self._start_due(part, pool):
            return "due"
        return "fresh" if not fresh_first and room > 0 and self._start_fresh(part, pool) else None

    def _start_due(self, part: Partition, pool: Pool[EventsInFlight]) -> bool:
        """Start the head of a lane that is due."""
        lane = part.lanes.pop_due(self._clock())
        if lane is None:
            return False
        if not self._ledger.begin(part):
            return False
        pending = lane.queue[0]
        if self._original_runs_elsewhere(part, pending):
            self._ledger.abandon(part)
            part.lanes.set_due(lane, self._clock() + COPY_WAIT_SECONDS)
            return True
        source = self._sources[part.tp.topic]
        self._start(part, source, lane, pending, judge(source, pending.record), pool)
        return True

    def _start_fresh(self, part: Partition, pool: Pool[EventsInFlight]) -> bool:
        """Start the next fresh event, or queue it if its lane is taken."""
        if not part.fresh:
            return False
        record = part.fresh[0]
        source = self._sources[part.tp.topic]
        value = judge(source, record)
        pending = Pending(record, identify(source, self._handler.dedup, record, value))
        free = not len(part.lanes) or not self._would_wait(part, pending)
        wait = free and bool(part.suspects) and record.offset in part.suspects
        free = free and not wait
        if not self._ledger.dispatch(part, record.offset, run=free):
            return False
        part.fresh.popleft()
        if wait:
            part.lanes.block(self._lane_key(record), [pending], self._clock() + SUSPECT_SECONDS)
            return True
        if not free:
            self._wait_behind(part, pending)
            return True
        lane = part.lanes.block(self._lane_key(record), [pending], math.inf)
        self._start(part, source, lane, pending, value, pool)
        return True

    def _would_wait(self, part: Partition, pending: Pending) -> bool:
        taken = part.lanes.get(self._lane_key(pending.record)) is not None
        return taken or self._original_runs_elsewhere(part, pending)

    def _start(
        self, part: Partition, source: Input, lane: Lane, pending: Pending, value: Any, pool: Pool[EventsInFlight]
    ) -> None:
        """Run the head of `lane`, or note why it needs no run. Its partition counts it as running either way."""
        part.lanes.set_due(lane, math.inf)
        record = pending.record
        deadline = math.inf if pool.outside else self._clock() + self._handler.timeout
        running = EventsInFlight(part, source, lane, pending, deadline)
        if pending.buried is not None:
            self._unrun.append((running, "letter"))
        elif isinstance(value, Failed):
            self._unrun.append((running, value))
        elif pending.event_id is not None and self._is_copy(part, pending.event_id, record):
            self._unrun.append((running, "copy"))
        else:
            self._running.add(running)
            running.began = self._clock()
            attempt = pending.attempts + 1
            event = self._attempts.event_of(source, record, pending.event_id, value, attempt)
            if self._attempts.runs_apart(part, record):
                self._start_apart(running, event, pool)
            else:
                running.slot = 0 if pool.outside else self._attempts.note_start(part, record, running.deadline)
                pool.start(event, running)

    def _start_apart(self, running: EventsInFlight, event: Event, pool: Pool[EventsInFlight]) -> None:
        running.apart = True
        running.deadline = math.inf  # whoever runs it ends it
        self._apart = self._apart or self._make_apart(self._attempts, pool, self._ledger.work.set)
        self._apart.start(event, running)

    # -- settling -------------------------------------------------------------------------------------------------

    def _answers(self, pool: Pool[EventsInFlight]) -> list[tuple[EventsInFlight, Any]]:
        """Everything that has come back by now."""
        if pool.error is not None:
            raise pool.error
        answered: list[tuple[EventsInFlight, Any]] = list(self._unrun)
        self._unrun.clear()
        now = self._clock()
        while True:
            try:
                running, answer = pool.answers.get_nowait()
            except Empty:
                return answered
            if running not in self._running:
                continue  # it has been answered: what it asked for is on its way, its lane has another head
            self._running.discard(running)
            if isinstance(answer, Failed) and not running.apart:
                self._attempts.check_memory(answer, running.pending.record)
            if running.slot:
                self._attempts.note_end(running.slot)
            self._facts.meter.took(now - running.began)
            answered.append((running, answer))

    def _conclude(self, answered: list[tuple[EventsInFlight, Any]]) -> None:
        """Send what the answers ask for, wait for the receipts and settle; a batch per partition, and one barrier.

        An event that has to run alone (its output was refused together with others') gets a barrier to itself.
        """
        groups: dict[Partition, list[tuple[EventsInFlight, Any]]] = {}
        for one in answered:
            if not one[0].pending.alone:
                groups.setdefault(one[0].part, []).append(one)
        for group in groups.values():
            group.sort(key=_offset)
        self._settle_answers(list(groups.values()))
        for one in answered:
            if one[0].pending.alone:
                self._settle_answers([[one]])

    def _settle_answers(self, groups: list[list[tuple[EventsInFlight, Any]]]) -> None:
        """Each of `groups` is of one epoch of a partition."""
        ended = [batch for group in groups if (batch := self._end_all(group[0][0].part, group)) is not None]
        if not ended:
            return
        waiting = [Waiting(one.batch, partial(self._plan, one.batch.part, one.batch)) for one in ended]
        for one, may_settle in zip(ended, self._receipts.wait(waiting, self._stops), strict=True):
            if may_settle:
                self._settle(one.batch.part, one.batch, one.sent, one.runs)
            else:
                self._abandon(one.batch.part, one.runs)

    def _end_all(self, part: Partition, group: list[tuple[EventsInFlight, Any]]) -> Ended | None:
        """What follows from these answers is sent; None when their epoch is over."""
        if part.ended:
            self._ledger.abandon(part, len(group))
            return None
        batch = Batch(part)
        sent: list[EventsInFlight] = []
        post = self._receipts.poster(batch, len(group))
        headers_of = stamper(self._handler.group, part.tp.topic, part.tp.partition, random.getrandbits(64))
        for running, answer in group:
            record = running.pending.record
            if not (record.headers or running.pending.attempts or running.apart) and type(answer) is list:
                batch.add(record, running.pending.event_id)
                if self._attempts.conclude_plain(answer, post, headers_of, record, len(batch.records) - 1):
                    sent.append(running)
                    continue
                batch.take_back(running.pending.event_id)
            delay = self._end(running, answer, batch)
            if delay is None:
                sent.append(running)
            else:
                part.lanes.set_due(running.lane, self._clock() + delay)
        return Ended(batch, sent, len(group))

    def _end(self, running: EventsInFlight, answer: list[Emit] | Failed | Unrun, batch: Batch) -> float | None:
        """Send what follows from an answer; the seconds until the event runs again, None when it comes to its end."""
        source, pending = running.source, running.pending
        # A copy takes no id: the window is that of the first one.
        batch.add(pending.record, None if answer == "copy" else pending.event_id)
        if answer == "copy":
            batch.mark_skipped()
        elif answer == "letter":
            self._attempts.send_letter(source, pending, batch)
        elif isinstance(answer, Failed) and answer.verdict in ("decode", "schema"):
            self._attempts.bury_broken(source, pending, answer, batch)
        elif isinstance(answer, Failed) and answer.verdict == "crash" and not running.apart:
            # Its process died, and other events were there as well: which of them it was shows when each runs alone.
            self._attempts.suspect(running.part, pending, answer)
            batch.take_back(pending.event_id)
            return 0.0
        else:
            conclude = self._attempts.conclude_apart if running.apart else self._attempts.conclude
            failed = conclude(answer, pending.record, batch, pending.attempts + 1)
            parked = None if failed is None else self._attempts.fail(source, pending, failed, batch)
            if parked is not None:
                batch.take_back(pending.event_id)
                return parked.delay
        return None

    def _plan(self, part: Partition, batch: Batch) -> SettlementPlan:
        """Where the barrier leads, by what has failed so far."""
        settled, ended_as = batch.settled(but={batch.records[i].offset for i in batch.failures})
        return SettlementPlan(batch.failures, self._ledger.preview(part, settled, ended_as, partial(release, settled)))

    def _settle(self, part: Partition, batch: Batch, sent: list[EventsInFlight], runs: int) -> None:
        """Settle what has its receipts; a lane whose event has not stays where it is, and tries again."""
        failed = {batch.records[i].offset for i in batch.failures}
        settled, ended_as = batch.settled(but=failed)
        suspected = bool(part.suspects) and any(r.offset in part.suspects for r in settled)
        if not self._ledger.finish(part, settled, ended_as, partial(release, settled), runs):
            return
        self._take_ids(part, batch, failed)
        self._guard.passed(ended_as.done)
        lanes, ended = part.lanes, sent
        if batch.failures:
            for running, failure in [(sent[i], why) for i, why in batch.failures.items()]:
                delay = self._attempts.note_send_failure(running.source, running.pending, failure, batch)
                lanes.set_due(running.lane, self._clock() + delay)
            ended = [running for index, running in enumerate(sent) if index not in batch.failures]
        for lane in lanes.settle_heads(running.lane for running in ended):
            lanes.set_due(lane, self._clock())
        if suspected:
            self._attempts.suspects_settled(part)
