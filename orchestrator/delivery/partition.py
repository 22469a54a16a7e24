"""Everything that is known about one assigned partition during one epoch (one assignment, from start to end).

Two threads use it: the one that polls Kafka, and the one that runs handlers. "The lock" is that of
`worker/consume/assignments.py`, whose methods are the only way to write what needs it.

| field | written by | under the lock |
|---|---|---|
| `tp`, `topic`, `birth`, `dedup`, `journal_index` | nobody after the epoch has begun | - |
| `fresh` | polling: appends; handlers: takes | appending; taking needs none (a deque) |
| `received`, `received_events`, `received_bytes` | polling | yes |
| `arrivals` | polling | no: nobody else looks |
| `end` | polling | yes |
| `topic_id`, `epoch` | polling | yes: a checkpoint reads them |
| `frontier` | handlers, when events are dispatched and settled | yes |
| `tally`, `settled_events`, `settled_bytes` | handlers, when events settle | yes |
| `running`, `committing` | handlers | yes |
| `draining` | polling (revoked, stopping); handlers (an epoch that was given up) | yes |
| `ended` | polling | yes |
| `rebuilding` | the thread that loads recent ids | yes |
| `suspects` | both | yes; handlers look events up without it |
| `lanes`, and what `dedup` holds | handlers | no: nobody else looks |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter

from orchestrator.delivery.admission import Load
from orchestrator.delivery.dedup import Dedup
from orchestrator.delivery.lanes import Lanes
from orchestrator.delivery.offsets.arrivals import Arrivals
from orchestrator.delivery.offsets.checkpoint import MOST_RANGES, Checkpoint
from orchestrator.delivery.offsets.frontier import Frontier, Ranges
from orchestrator.delivery.strikes import Strikes
from orchestrator.delivery.tally import Tally
from orchestrator.records import Headers, Record, TopicPartition

_KEY, _VALUE, _HEADERS = map(itemgetter, (4, 5, 6))


class Partition:
    """One epoch of one partition, from the checkpoint on that its group committed last."""

    def __init__(self, tp: TopicPartition, topic: str, start: Checkpoint, dedup: Dedup | None) -> None:
        """`topic` is the file's name of the topic; `tp` has the cluster's."""
        self.tp = tp
        self.topic = topic
        self.frontier = Frontier(start.offset, start.settled)
        self.lanes = Lanes()
        self.dedup = dedup
        self.tally = start.tally
        #: The id of the topic that all of this is about ("" when it is not known), and the group's birth.
        self.topic_id = start.topic_id
        self.birth = start.birth
        #: A leader epoch of what was received; written by the thread that polls.
        self.epoch = start.epoch
        self.arrivals = Arrivals()
        #: Events that may have killed or hung a process, by offset: they run alone until they settle. Changed under the
        #: ledger's lock, looked up without it by the thread that runs handlers.
        self.suspects: dict[int, Strikes] = {at: strikes.found() for at, strikes in start.strikes}
        #: What the journal calls this partition.
        self.journal_index = 0
        self.fresh: deque[Record] = deque()
        #: Behind everything that arrived: where the poll reads on.
        self.received = start.offset
        #: The offset at which the log ended when everything before it had arrived; 0: not seen.
        self.end = 0
        #: No further event of this epoch is started (it is being revoked, or the worker stops).
        self.draining = False
        #: The epoch is over: whatever completes now is dropped.
        self.ended = False
        #: No event runs yet: the ids that are taken are still being read back from the log.
        self.rebuilding = False
        #: How many of its events run, or wait for their receipts.
        self.running = 0
        #: A transaction with an offset of this partition is under way: nobody else may commit one.
        self.committing = False
        self.received_events = 0
        self.received_bytes = 0
        self.settled_events = 0
        self.settled_bytes = 0

    def receive(self, records: Sequence[Record]) -> int:
        """Take arrivals, in order; returns how many are new. What a former life settled is left out."""
        if records:
            self.received = records[-1].offset + 1
            self.arrivals.add(records)
        if self.frontier.has_restored:
            records = [r for r in records if not self.frontier.settled_before(r.offset)]
        self.received_events += len(records)
        self.received_bytes += sizes_of(records)
        self.fresh.extend(records)
        return len(records)

    def settle(self, records: Sequence[Record], ended_as: Tally) -> None:
        """Count `records` as settled; where they stand is the frontier's business."""
        self.tally = self.tally.plus(ended_as)
        self.settled_events += len(records)
        self.settled_bytes += sizes_of(records)
        if self.suspects:
            for record in records:
                self.suspects.pop(record.offset, None)

    def reach_end(self) -> None:
        """All that arrived is dispatched: with the log's end known, the frontier moves up to it (step 11)."""
        if not self.fresh:
            self.frontier.advance(self.end)

    def room(self, most: int) -> int:
        """How many fresh events may be dispatched now, at most `most`.

        Every one of them can leave one more settled range above the frontier, and all ranges have to fit into the
        commit's metadata.
        """
        if not len(self.lanes):
            return most
        return max(0, min(most, MOST_RANGES - len(self.frontier.settled_above())))

    def checkpoint(self) -> Checkpoint:
        return self._checkpoint(self.frontier, self.tally, self._held_against())

    def preview(self, settled: Sequence[Record], ended_as: Tally, move: Callable[[Frontier], None]) -> Checkpoint:
        """The checkpoint as it will be once `move` is done and `settled` counted."""
        frontier = self.frontier.copy()
        move(frontier)
        if not self.fresh:
            frontier.advance(self.end)
        return self._checkpoint(frontier, self.tally.plus(ended_as), self._held_against(settled))

    def _checkpoint(self, frontier: Frontier, tally: Tally, strikes: tuple[tuple[int, Strikes], ...]) -> Checkpoint:
        settled = frontier.settled_above()
        return Checkpoint(frontier.committable, settled, tally, strikes, self.topic_id, self.epoch, self.birth)

    def settled_from(self, first: int) -> Ranges:
        """The ranges of settled offsets from `first` on, of all that was dispatched in this epoch."""
        held = sorted(offset for offset in self.frontier.held_offsets() if offset >= first)
        edges = [first - 1, *held, self.frontier.position]
        return tuple((at + 1, following) for at, following in pairwise(edges) if following > at + 1)

    def _held_against(self, settled: Sequence[Record] = ()) -> tuple[tuple[int, Strikes], ...]:
        """The strikes of all events under suspicion but those that are `settled` now."""
        if not self.suspects:
            return ()
        over = {record.offset for record in settled}
        return tuple(sorted(one for one in self.suspects.items() if one[0] not in over))

    @property
    def in_flight(self) -> int:
        return self.received_events - self.settled_events

    def load(self) -> Load:
        return Load(self.in_flight, self.received_bytes - self.settled_bytes)


def sizes_of(records: Sequence[Record]) -> int:
    """The sum of `size_of`, on the path of every event: so field by field, without a loop of Python's."""
    size = 100 * len(records)
    size += sum(map(len, filter(None, map(_KEY, records)))) + sum(map(len, filter(None, map(_VALUE, records))))
    return size + sum(map(_size_of_headers, filter(None, map(_HEADERS, records))))


def size_of(record: Record) -> int:
    """Bytes of memory that a record stands for, roughly."""
    return sizes_of([record])


def _size_of_headers(headers: Headers) -> int:
    return sum(100 + len(name) + len(value or b"") for name, value in headers)
