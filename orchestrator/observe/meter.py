"""What a worker counts of its events, as cheaply as can be: whole numbers and one bisection for each event."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from orchestrator.observe.metrics import BOUNDS


class Meter:
    """The counts of one process, from its start. Changed by the thread that runs handlers, read by another one."""

    __slots__ = (
        "buckets",
        "copies",
        "failed",
        "letters",
        "letters_cut",
        "letters_refused",
        "offsets_lost",
        "ok",
        "seconds",
    )

    def __init__(self) -> None:
        #: Runs that ended well, and the others by their verdict.
        self.ok = 0
        self.failed: Counter[str] = Counter()
        #: Acknowledged dead letters by reason, how many of them were cut, and how often one was not taken.
        self.letters: Counter[str] = Counter()
        self.letters_cut = 0
        self.letters_refused = 0
        self.copies = 0
        self.offsets_lost = 0
        #: Runs by how long they took, one number for each bucket, and their sum in seconds.
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def quick(self, runs: int, seconds: float) -> None:
        """So many runs, each within the first bound, lasted so long together."""
        self.buckets[0] += runs
        self.seconds += seconds

    def took(self, seconds: float) -> None:
        """One run of the handler lasted so long. A value on a bound belongs below it, as Prometheus has it."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
