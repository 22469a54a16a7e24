"""Which offsets of a partition are settled, and how far a commit may reach. DESIGN section 5, step 11.

Rules:
- Offsets have gaps (compaction, transaction markers): nothing is counted, only received offsets are walked.
- `position` is behind everything that was dispatched; what lies before it is settled unless it is held.
- The only offset ever committed is `committable`: the lowest held offset, or `position` when none is held.
- What a former life of the partition settled above its commit is `restored`: never run again, never forgotten.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

#: Half-open ranges of offsets `(first, end)`, ascending and apart.
Ranges = tuple[tuple[int, int], ...]


class Frontier:
    """The settled offsets of one partition, from `start` on. `restored` are settled ranges above `start`."""

    __slots__ = ("_heap", "_held", "_restored", "position")

    def __init__(self, start: int, restored: Sequence[tuple[int, int]] = ()) -> None:
        self.position = start
        self._restored = [(first, end) for first, end in restored if end > start]
        self._held: set[int] = set()
        self._heap: list[int] = []

    def copy(self) -> Frontier:
        """The same state, to find out where a step would lead."""
        other = Frontier(self.position, self._restored)
        other._held, other._heap = set(self._held), list(self._heap)
        return other

    def settled_before(self, offset: int) -> bool:
        """Whether a former life of this partition already settled `offset` (above its commit)."""
        if not self._restored:
            return False
        i = bisect_right(self._restored, (offset, 1 << 63)) - 1
        return i >= 0 and self._restored[i][0] <= offset < self._restored[i][1]

    def is_settled(self, offset: int) -> bool:
        """Whether `offset` needs no run: settled in this life or in a former one."""
        return (offset < self.position and offset not in self._held) or self.settled_before(offset)

    @property
    def has_restored(self) -> bool:
        return bool(self._restored)

    def hold(self, offset: int) -> None:
        """`offset` was dispatched and is not settled yet. Hold it before `advance` passes it."""
        if offset not in self._held:
            self._held.add(offset)
            heappush(self._heap, offset)

    def hold_next(self, offsets: Sequence[int]) -> None:
        """These are dispatched and not settled: all that was received from `position` to the last of them, in order."""
        self._held.update(offsets)
        self._heap.extend(offsets)  # larger than all others, which leaves it a heap
        self.advance(offsets[-1] + 1)

    def release(self, *offsets: int) -> None:
        """These held ones are settled now."""
        self._held.difference_update(offsets)
        while self._heap and self._heap[0] not in self._held:
            heappop(self._heap)
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._held):
            self._heap = list(self._held)
            heapify(self._heap)

    def advance(self, position: int) -> None:
        """Everything received below `position` is settled or held."""
        if position > self.position:
            self.position = position
            if self._restored and self._restored[0][1] <= position:
                self._restored = [r for r in self._restored if r[1] > position]

    @property
    def held(self) -> int:
        """How many dispatched events are not settled."""
        return len(self._held)

    def held_offsets(self) -> frozenset[int]:
        """The dispatched offsets that are not settled."""
        return frozenset(self._held)

    @property
    def committable(self) -> int:
        return self._heap[0] if self._heap else self.position

    def settled_above(self) -> Ranges:
        """The settled ranges above `committable`, gaps in the log included: what a restart must not run again."""
        ranges: list[tuple[int, int]] = []
        for at, following in pairwise([*sorted(self._held), self.position]):
            if following > at + 1:
                ranges.append((at + 1, following))
        for first, end in self._restored:
            first = max(first, self.position)
            if ranges and ranges[-1][1] == first:
                ranges[-1] = (ranges[-1][0], end)
            elif end > first:
                ranges.append((first, end))
        return tuple(ranges)
