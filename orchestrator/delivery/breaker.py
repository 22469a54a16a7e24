"""When a handler has to wait as a whole: the circuit breaker and the fuse. DESIGN section 5, step 7.

The breaker opens when what the handler depends on is away, the fuse when too many events are about to be given up: that
is a bad deploy or an outage, not bad data. Both blame no event.

| state     | may run  | an event succeeds | one is unavailable or times out       | the fuse blows |
|-----------|----------|-------------------|---------------------------------------|----------------|
| closed    | all      | closed            | open, after `failures` in a row       | open           |
| open      | none     | -                 | -                                     | -              |
| half-open | one      | closed            | open, and twice as long as before     | open           |

Open turns half-open when its wait is over. Any answer of the handler but those two is a success here: it was able to
decide.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from orchestrator.config.model import BreakerPolicy, FusePolicy
from orchestrator.delivery.backoff import delay_of

State = Literal["closed", "open", "half-open"]
_DEFAULT = BreakerPolicy()


class Breaker:
    """One handler's breaker. `now` is any monotonic clock in seconds; `chance` in [0, 1) spreads the waits."""

    def __init__(self, policy: BreakerPolicy | None) -> None:
        """None: failures never open it (the fuse still can)."""
        self._policy = policy
        self._waits = policy or _DEFAULT
        self._openings = 0
        #: Failures in a row since the last success.
        self.failures = 0
        self.state: State = "closed"
        #: When an open breaker lets one event try.
        self.until = 0.0
        #: What opened it, in a sentence; "" when closed.
        self.why = ""

    def admits(self, now: float) -> Literal["all", "one", "none"]:
        """How many events may start now."""
        if self.state == "open" and now >= self.until:
            self.state = "half-open"
        return "all" if self.state == "closed" else "one" if self.state == "half-open" else "none"

    def succeeded(self) -> None:
        self.failures = 0
        self._openings = 0
        self.state = "closed"
        self.why = ""

    def failed(self, why: str, now: float, chance: float, after: float | None = None) -> None:
        """An event was unavailable or timed out; `after` is the wait in seconds that the other side asked for."""
        self.failures += 1
        if self._policy is None:
            return
        if self.state != "closed" or self.failures >= self._policy.failures:
            self.open(why, now, chance, after)

    def open(self, why: str, now: float, chance: float, after: float | None = None) -> None:
        self._openings += 1
        wait = delay_of(self._openings, self._waits.wait, self._waits.max_wait, chance)
        self.state = "open"
        self.until = now + max(wait, after or 0.0)
        self.why = why


class Fuse:
    """Counts how the last events ended, and says when one more letter would be too many."""

    def __init__(self, policy: FusePolicy | None) -> None:
        """None: it never blows."""
        self._policy = policy
        #: Runs of equal ends, oldest first: [given up?, how many].
        self._runs: deque[list[int]] = deque()
        self._total = 0
        self._given_up = 0

    def passed(self, events: int) -> None:
        """So many events ended well."""
        if events and self._policy is not None:
            self._note(0, events)

    def gave_up(self) -> None:
        """One event ended in its dead letter because of the handler's verdict."""
        if self._policy is not None:
            self._note(1, 1)

    def blows(self) -> bool:
        """Whether one more given up would be more than the allowed share of the last events."""
        policy = self._policy
        return policy is not None and self._given_up + 1 > policy.share * policy.of

    def reset(self) -> None:
        self._runs.clear()
        self._total = self._given_up = 0

    def _note(self, given_up: int, events: int) -> None:
        if self._runs and self._runs[-1][0] == given_up:
            self._runs[-1][1] += events
        else:
            self._runs.append([given_up, events])
        self._total += events
        self._given_up += given_up * events
        over = self._total - (self._policy.of if self._policy is not None else 0)
        while over > 0:
            oldest = self._runs[0]
            cut = min(over, oldest[1])
            oldest[1] -= cut
            self._total -= cut
            self._given_up -= oldest[0] * cut
            over -= cut
            if not oldest[1]:
                self._runs.popleft()
