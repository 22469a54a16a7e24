"""The counts of one handler over all its processes, those that are gone included: they never go backwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.observe.measured import Measured, OwnedPartition
from orchestrator.observe.metrics import BOUNDS

#: Topic and partition.
Where = tuple[str, int]


class Totals:
    """Sums of what processes count from their own start. What a process counted between its last report and its
    death is missing: at most a second's worth.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.records: Counter[Where] = Counter()
        self.restarts: Counter[str] = Counter()

    def add(self, before: Measured, after: Measured) -> None:
        """A process said `after`; the time before it had said `before`."""
        for name, by_label in after.counts.items():
            known = before.counts.get(name, {})
            total = self.counts.setdefault(name, Counter())
            for label, count in by_label.items():
                total[label] += max(0, int(count - known.get(label, 0)))
        for at, (was, now) in enumerate(zip(before.buckets, after.buckets, strict=True)):
            self.buckets[at] += max(0, now - was)
        self.seconds += max(0.0, after.seconds - before.seconds)

    def add_places(self, before: Mapping[Where, int], after: Sequence[OwnedPartition]) -> None:
        """The same for the events of each partition; `before` has all that the process has ever said."""
        for place in after:
            where = (place.topic, place.partition)
            self.records[where] += max(0, place.records - before.get(where, 0))
