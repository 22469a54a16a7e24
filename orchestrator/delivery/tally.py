"""The accounting of a handler: `in = done + dead_lettered + skipped + in_flight`. DESIGN section 5, step 15."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """Settled events by how they ended, since the consumer group began (the numbers ride in its commits)."""

    done: int = 0
    dead_lettered: int = 0
    skipped: int = 0

    @property
    def settled(self) -> int:
        return self.done + self.dead_lettered + self.skipped

    def plus(self, other: Tally) -> Tally:
        return Tally(self.done + other.done, self.dead_lettered + other.dead_lettered, self.skipped + other.skipped)
