"""The partitions that this worker owns, shared by its two threads under one lock.

Rules (DESIGN section 5, steps 1 and 12):
- A settlement and a commit never see each other half done: both happen under the lock.
- What completes after its assignment's epoch ended is dropped here, nowhere else.
- Draining ends when no event of the partition runs or waits for receipts, or when the budget is spent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from orchestrator.delivery.admission import Load
from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.offsets.frontier import Frontier
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.strikes import Strikes
from orchestrator.delivery.tally import Tally
from orchestrator.records import Record, TopicPartition

_PLACE: Callable[[Record], tuple[str, int]] = itemgetter(0, 1)
#: Moves a frontier, the partition's own or a copy.
Move = Callable[[Frontier], None]


class Assignments:
    """The assigned partitions. `work` is set whenever the thread that runs handlers has something new to look at."""

    def __init__(self) -> None:
        self.work = threading.Event()
        self._lock = threading.Lock()
        self._calm = threading.Condition(self._lock)
        self._parts: dict[TopicPartition, Partition] = {}
        self._committed: dict[TopicPartition, Checkpoint] = {}
        #: How many commits were asked for out of turn, and up to which one they were made.
        self.commits_asked = 0
        #: How many calls of `drain` wait. The thread that would commit is in them.
        self._drains = 0
        self._commits_made = 0
        #: How events ended in this process, and how many of each partition; only ever more of them.
        self.settled = Tally()
        self.settled_of: dict[TopicPartition, int] = {}
        #: The owned partitions in a stable order; replaced, never changed, so that readers need no lock.
        self.partitions: tuple[Partition, ...] = ()

    def wake(self) -> None:
        """There is something to look at. Cheap where that was said before and nobody has looked yet: whoever looks
        clears `work` first, and sees all that was there when it was set."""
        if not self.work.is_set():
            self.work.set()

    # -- the thread that polls ------------------------------------------------------------------------------------

    def open(self, part: Partition, committed: Checkpoint | None) -> None:
        """A new epoch of a partition begins. `committed` is what the group has committed, None if nothing."""
        with self._lock:
            former = self._parts.get(part.tp)
            if former is not None:
                former.ended = True
            self._parts[part.tp] = part
            self._committed.pop(part.tp, None)
            if committed is not None:
                self._committed[part.tp] = committed
            self.partitions = tuple(self._parts.values())
        self.work.set()

    def receive(self, records: Iterable[Record]) -> None:
        """Hand over what a poll brought; records of partitions that are not owned (any more) are dropped."""
        by_partition: dict[tuple[str, int], list[Record]] = {}
        for place, run in groupby(records, _PLACE):
            by_partition.setdefault(place, []).extend(run)
        with self._lock:
            for (topic, partition), arrived in by_partition.items():
                part = self._parts.get(TopicPartition(topic, partition))
                if part is not None:
                    part.receive(arrived)
        self.work.set()

    def reach_end(self, tp: TopicPartition, offset: int) -> None:
        """Everything of `tp` before `offset` has been received."""
        with self._lock:
            part = self._parts.get(tp)
            if part is None:
                return
            part.end = offset
        self.work.set()

    def identify(self, part: Partition, topic_id: str) -> None:
        """The id of the partition's topic, where it was not known."""
        with self._lock:
            part.topic_id = part.topic_id or topic_id

    def note_epoch(self, part: Partition, epoch: int) -> None:
        """A leader epoch of what was received: the highest counts."""
        with self._lock:
            part.epoch = max(part.epoch, epoch)

    def drain(self, tps: Iterable[TopicPartition], budget: float) -> bool:
        """Start no further event of `tps` and wait up to `budget` seconds for those that run; whether all ended."""
        deadline = time.monotonic() + budget
        with self._calm:
            parts = [self._parts[tp] for tp in tps if tp in self._parts]
            for part in parts:
                part.draining = True
            self.work.set()
            self._drains += 1
            self._calm.notify_all()
            try:
                while any(part.running for part in parts):
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._calm.wait(left):
                        return not any(part.running for part in parts)
            finally:
                self._drains -= 1
        return True

    def close(self, tps: Iterable[TopicPartition], patience: float = 0.0) -> dict[TopicPartition, Checkpoint]:
        """The epochs of `tps` end now; returns what is to be committed for them (only what changed).

        A transaction that holds offsets of them gets `patience` seconds to end. Of one that still has not, nobody may
        commit another offset: Kafka keeps whichever came last.
        """
        with self._calm:
            ending = [part for tp in tps if (part := self._parts.get(tp)) is not None]
            self._calm.wait_for(lambda: not any(part.committing for part in ending), patience)
            ended: dict[TopicPartition, Checkpoint] = {}
            for part in ending:
                del self._parts[part.tp]
                part.draining = part.ended = True
                self._calm.notify_all()
                # A run alone whose end we do not wait for was not lost: it is given up, and counts nothing.
                part.suspects = {at: held._replace(solo=False) for at, held in part.suspects.items()}
                checkpoint = part.checkpoint()
                if self._committed.pop(part.tp, None) != checkpoint and not part.committing:
                    ended[part.tp] = checkpoint
            self.partitions = tuple(self._parts.values())
        self.work.set()
        return ended

    def uncommitted(self) -> dict[TopicPartition, Checkpoint]:
        """The checkpoints that changed since they were last taken from here."""
        with self._lock:
            changed = {}
            for tp, part in self._parts.items():
                checkpoint = part.checkpoint()
                if self._committed.get(tp) != checkpoint:
                    changed[tp] = self._committed[tp] = checkpoint
            return changed

    def checkpoint(self, part: Partition) -> Checkpoint:
        """What is settled of `part` now."""
        with self._lock:
            return part.checkpoint()

    def commits_made(self, asked: int) -> None:
        """A commit of everything, begun when so many had been asked for, is done."""
        with self._calm:
            self._commits_made = asked
            self._calm.notify_all()

    @property
    def commit_wanted(self) -> bool:
        """Whether somebody waits for a commit."""
        return self.commits_asked > self._commits_made

    def commit_failed(self, tps: Iterable[TopicPartition]) -> None:
        """A commit of these did not reach the group: they count as uncommitted again."""
        with self._lock:
            for tp in tps:
                self._committed.pop(tp, None)

    def loads(self) -> Mapping[TopicPartition, Load]:
        return {part.tp: part.load() for part in self.partitions}

    def await_progress(self, enough: Callable[[], bool], seconds: float) -> None:
        """Wait up to so long until it is `enough`, which is asked whenever something has settled."""
        with self._calm:
            self._calm.wait_for(enough, seconds)

    def frontiers(self) -> dict[TopicPartition, int]:
        """The offset before which everything is settled, of each owned partition."""
        with self._lock:
            return {tp: part.frontier.committable for tp, part in self._parts.items()}

    def totals(self) -> tuple[Tally, int]:
        """How all owned partitions' events ended, and how many are in flight."""
        with self._lock:
            tally, flying = Tally(), 0
            for part in self._parts.values():
                tally = tally.plus(part.tally)
                flying += part.in_flight
            return tally, flying

    def unbalanced(self) -> dict[TopicPartition, tuple[int, int, int]]:
        """Partitions at rest whose events do not add up: settled so far, in flight, and those that are there to see.

        In flight is what was received less what settled; there to see are the waiting and the held. Only a bug makes
        them differ. An event on its way from one to the other may be seen twice for a moment: ask again.
        """
        with self._lock:
            seen = {part.tp: (part, part.frontier.held + len(part.fresh)) for part in self._parts.values()}
            return {
                tp: (part.settled_events, part.in_flight, there)
                for tp, (part, there) in seen.items()
                if not part.running and part.in_flight != there
            }

    def rebuilt(self, part: Partition) -> None:
        """The ids that are taken are known again: events may run."""
        with self._lock:
            part.rebuilding = False
        self.work.set()

    # -- the thread that runs handlers ----------------------------------------------------------------------------

    def suspect(self, part: Partition, offset: int, strikes: Strikes) -> None:
        """This is held against an event that is not settled, from now on and in the next commit."""
        with self._lock:
            part.suspects[offset] = strikes

    def solo_ended(self, part: Partition, offset: int) -> None:
        """A run of it alone came back with an answer: whoever comes next has nothing to count for that."""
        with self._lock:
            held = part.suspects.get(offset)
            if held is not None and held.solo:
                part.suspects[offset] = held._replace(solo=False)

    def announce(self, part: Partition, offset: int | None, patience: float) -> bool:
        """The event is about to run alone (None: no event is): have that, and all that settled, committed first.

        Waits up to `patience` seconds, and not while partitions are drained: who commits waits for that. Whether it was
        committed.
        """
        with self._calm:
            if offset is not None:
                part.suspects[offset] = part.suspects.get(offset, Strikes())._replace(solo=True)
            self.commits_asked += 1
            mine = self.commits_asked
            self._calm.notify_all()  # who commits may be waiting for progress
            self._calm.wait_for(
                lambda: self._commits_made >= mine or part.draining or part.ended or self._drains > 0, patience
            )
            return self._commits_made >= mine

    def begin(self, part: Partition) -> bool:
        """Events of `part` are about to run; False when none may start any more."""
        with self._lock:
            if part.draining or part.ended or part.rebuilding:
                return False
            part.running += 1
            return True

    def dispatch(self, part: Partition, offset: int, *, run: bool) -> bool:
        """The next fresh event of `part`, held from now on, is about to `run` or to queue; False as for `begin`."""
        with self._lock:
            if part.draining or part.ended or part.rebuilding:
                return False
            part.frontier.hold(offset)
            part.frontier.advance(offset + 1)
            part.running += run
            return True

    def dispatch_all(self, part: Partition, offsets: Sequence[int]) -> bool:
        """The next fresh events of `part` are about to run, as by `dispatch`: all of them or none."""
        with self._lock:
            if part.draining or part.ended or part.rebuilding:
                return False
            part.frontier.hold_next(offsets)
            part.running += len(offsets)
            return True

    def preview(self, part: Partition, settled: Sequence[Record], ended_as: Tally, move: Move) -> Checkpoint:
        """What `finish` would lead to."""
        with self._lock:
            return part.preview(settled, ended_as, move)

    def finish(self, part: Partition, settled: Sequence[Record], ended_as: Tally, move: Move, runs: int = 1) -> bool:
        """So many `runs` have their receipts: count `settled`, `move` the frontier; not (and False) after the epoch."""
        with self._calm:
            part.running -= runs
            part.committing = False
            self._calm.notify_all()
            if part.ended:
                return False
            move(part.frontier)
            part.settle(settled, ended_as)
            self.settled = self.settled.plus(ended_as)
            self.settled_of[part.tp] = self.settled_of.get(part.tp, 0) + len(settled)
            part.reach_end()
            return True

    def abandon(self, part: Partition, runs: int = 1, *, stop: bool = False) -> None:
        """So many runs will not get their delivery reports: nothing settles.

        `stop`: no further event of this epoch is started; whoever owns the partition next runs these again.
        """
        with self._calm:
            part.draining = part.draining or stop
            part.running = max(0, part.running - runs)
            part.committing = False
            self._calm.notify_all()

    # -- transactions ---------------------------------------------------------------------------------------------

    def enter(self, part: Partition) -> bool:
        """A transaction is about to hold an offset of `part`, once no other does; False when its epoch is over.

        It holds until `leave` when it was aborted, else until `finish` or `abandon`: what was committed and what is
        settled are never seen apart.
        """
        with self._calm:
            self._calm.wait_for(lambda: part.ended or not part.committing)
            part.committing = not part.ended
            return part.committing

    def leave(self, part: Partition) -> None:
        """The transaction of `enter` was aborted."""
        with self._calm:
            part.committing = False
            self._calm.notify_all()

    def committed(self, part: Partition, checkpoint: Checkpoint) -> None:
        """`checkpoint` is what the group has now."""
        with self._lock:
            if not part.ended:
                self._committed[part.tp] = checkpoint

    def enter_changed(self) -> tuple[dict[Partition, Checkpoint], bool]:
        """What changed since it was last committed, held by a transaction now, until `leave_changed`.

        And whether that is all: what another transaction holds is left out.
        """
        with self._lock:
            changed, complete = {}, True
            for part in self._parts.values():
                checkpoint = part.checkpoint()
                if self._committed.get(part.tp) == checkpoint:
                    continue
                if part.committing:
                    complete = False
                    continue
                changed[part] = checkpoint
                part.committing = True
            return changed, complete

    def leave_changed(self, changed: Mapping[Partition, Checkpoint], *, ok: bool) -> None:
        """The transaction of `enter_changed` ended; `ok`: committed."""
        with self._calm:
            for part, checkpoint in changed.items():
                part.committing = False
                if ok and not part.ended:
                    self._committed[part.tp] = checkpoint
            self._calm.notify_all()

    def idle(self, part: Partition) -> None:
        """Nothing of `part` runs and nothing waits: a gap at the log's end is passed over."""
        with self._lock:
            if not part.running and not part.ended:
                part.reach_end()
