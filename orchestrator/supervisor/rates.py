"""How many events a second come in and are settled, from the counts that workers report about once a second. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

#: Seconds that a rate looks back on.
WINDOW = 10.0
#: Counts older than this say nothing about now (seconds).
STALE = 5.0


class Rate(NamedTuple):
    """Events a second: received, and settled (done, dead-lettered or skipped)."""

    received: float
    settled: float


class Rates:
    """The newest counts of one worker."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def begin(self) -> None:
        """The counts start anew: other partitions, or another process. The counts of a partition move with it."""
        self._seen.clear()

    def saw(self, at: float, counts: Mapping[str, int]) -> None:
        """Its accounting at `at` (seconds)."""
        self._seen.append((at, counts["in"], counts["in"] - counts["in_flight"]))
        while len(self._seen) > 2 and at - self._seen[0][0] > WINDOW:
            self._seen.popleft()

    def now(self, at: float) -> Rate | None:
        """The rates at `at`; None while too little is known."""
        if len(self._seen) < 2 or at - self._seen[-1][0] > STALE:
            return None
        (begin, came, went), (end, came_now, went_now) = self._seen[0], self._seen[-1]
        if end <= begin:
            return None
        seconds = end - begin
        return Rate(max(0.0, (came_now - came) / seconds), max(0.0, (went_now - went) / seconds))
