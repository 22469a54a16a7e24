"""The events between two barriers: what ran, how each ended, and which receipts failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

from orchestrator.delivery.partition import Partition
from orchestrator.delivery.pending import EventId, Pending
from orchestrator.delivery.tally import Tally
from orchestrator.kafka.producer import Parts, SendFailure
from orchestrator.records import Outgoing, Record

#: Hears whether a record was written: None, or why not.
Told = Callable[[SendFailure | None], None]


class Batch:
    """Events of one partition on their way to being settled, in order.

    `records` are those that settle once all receipts are in; the other collections name the exceptions among them by
    their index. `held` are the offsets that went into lanes instead. `ids` are the event ids in progress. `given_up`
    are the lanes whose later events wait for a letter's receipt: should the letter get lost with this process, the
    event runs again, might end well, and must not come after its successors.
    """

    __slots__ = (
        "buried",
        "failures",
        "given_up",
        "held",
        "ids",
        "on_stall",
        "outs",
        "part",
        "records",
        "sent",
        "skipped",
    )

    def __init__(self, part: Partition) -> None:
        self.part = part
        self.records: list[Record] = []
        self.ids: dict[EventId, Record] = {}
        self.held: list[int] = []
        self.given_up: set[Hashable] = set()
        self.buried: dict[int, Pending] = {}
        self.skipped: set[int] = set()
        self.failures: dict[int, SendFailure] = {}
        self.sent = 0
        #: What is sent at the barrier only (transactions): the index of the record that caused it, and who wants to
        #: know whether it was written.
        self.outs: list[tuple[int, Outgoing | Parts, Told | None]] = []
        #: Called while an output waits for room: whoever is timed meanwhile does not run.
        self.on_stall: Callable[[], None] | None = None

    @property
    def over(self) -> bool:
        """The partition's epoch has ended: nothing of this batch will count."""
        return self.part.ended

    def stalled(self) -> bool:
        """Asked while an output waits for room: whether to give it up."""
        if self.on_stall is not None:
            self.on_stall()
        return self.part.ended

    def add(self, record: Record, event_id: EventId | None = None) -> None:
        """`record` runs now."""
        self.records.append(record)
        if event_id is not None:
            self.ids[event_id] = record

    def take_back(self, event_id: EventId | None) -> Record:
        """The record that was added last did not come to an end."""
        if event_id is not None:
            self.ids.pop(event_id, None)
        return self.records.pop()

    def mark_skipped(self) -> None:
        """The record that was added last is skipped."""
        self.skipped.add(len(self.records) - 1)

    def mark_buried(self, pending: Pending) -> None:
        """The record that was added last ends in a DLQ."""
        self.buried[len(self.records) - 1] = pending

    def receipt(self, index: int, failure: SendFailure | None, partition: int, offset: int) -> None:
        """A delivery report for what the record at `index` caused."""
        if failure is not None:
            self.failures.setdefault(index, failure)

    def settled(self, but: Collection[int] = (), until: int | None = None) -> tuple[list[Record], Tally]:
        """The records that settle and how: all `until` that index, but those whose offsets are in `but`."""
        if not but and until is None:
            skipped, dead = len(self.skipped), len(self.buried)
            return self.records, Tally(len(self.records) - skipped - dead, dead, skipped)
        kept = [i for i, r in enumerate(self.records[:until]) if r.offset not in but]
        skipped = sum(1 for i in kept if i in self.skipped)
        dead = sum(1 for i in kept if i in self.buried)
        return [self.records[i] for i in kept], Tally(len(kept) - skipped - dead, dead, skipped)
