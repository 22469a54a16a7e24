"""The handler's breaker and fuse at work: what happens to events is noted here, and whether more may start asked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Literal, Protocol

from orchestrator.config.model import Handler
from orchestrator.delivery.breaker import Breaker, Fuse
from orchestrator.delivery.outcome import Failed
from orchestrator.worker.events import WorkerEvents

#: How soon an open breaker is looked at again while a probe is under way (seconds).
PROBE_PAUSE = 0.05


class DependencyProbe(Protocol):
    """Finds out whether what the handler depends on is back."""

    def look(self) -> str | None:
        """What is wrong, "" when it is well, None while that is not known. Never blocks."""
        ...


class FlowControl:
    """One handler's guard. The thread that runs handlers changes it; others may read `halted` and `state`."""

    def __init__(
        self,
        handler: Handler,
        facts: WorkerEvents,
        clock: Callable[[], float] = time.monotonic,
        probe: DependencyProbe | None = None,
    ) -> None:
        """With a `probe` no event is risked before that has found all well."""
        self._breaker = Breaker(handler.breaker)
        self._fuse = Fuse(handler.fuse)
        self._blown = False
        self._facts = facts
        self._clock = clock
        self._probe = probe
        #: How many events ended well so far.
        self.done = 0

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        return self._breaker.state

    @property
    def halted(self) -> bool:
        """No event may start now."""
        return self._breaker.state == "open"

    @property
    def troubled(self) -> bool:
        """A success would change something: the happy path asks this and nothing else."""
        return self._breaker.failures > 0 or self._breaker.state != "closed"

    def admits(self) -> Literal["all", "one", "none"]:
        breaker = self._breaker
        if self._probe is not None and breaker.state == "open" and not self._blown and self._clock() >= breaker.until:
            wrong = self._probe.look()
            if wrong is None:
                return "none"
            if wrong:
                breaker.open(wrong, self._clock(), random.random())
                self._facts.trouble(f"still away: {wrong}")
        return breaker.admits(self._clock())

    def patience(self) -> float:
        """Seconds until an open breaker lets one event try."""
        return max(PROBE_PAUSE, self._breaker.until - self._clock())

    def answered(self) -> None:
        """The handler was able to decide about an event, for or against it."""
        was = self._breaker.state
        if was != "closed" and self._blown:
            return  # an answer is not enough: `passed` closes a blown fuse
        self._breaker.succeeded()
        if was != "closed":
            self._facts.recovered()

    def failed(self, failed: Failed) -> None:
        """An event was unavailable or timed out."""
        was = self._breaker.state
        self._breaker.failed(failed.message, self._clock(), random.random(), failed.after)
        if self.halted and was == "closed":
            what = f"{failed.error_type}: {failed.message}"
            self._facts.alarm(f"the breaker is open, the handler waits; next try in {self.patience():.1f} s: {what}")

    def may_give_up(self) -> bool:
        """Whether one more event may end in its dead letter by the handler's verdict; if not, the fuse blows."""
        if not self._blown and not self._fuse.blows():
            self._fuse.gave_up()
            return True
        if not self._blown:
            self._facts.alarm(
                "the fuse is blown: too many of the last events were about to be given up; the handler waits and tries"
                " one event now and then. Mend it and start it again, or set `fuse: off`"
            )
        self._blown = True
        self._breaker.open("the fuse is blown", self._clock(), random.random())
        return False

    def passed(self, events: int) -> None:
        """So many events ended well."""
        self.done += events
        self._fuse.passed(events)
        if self._blown and events:
            self._blown = False
            self._fuse.reset()
            self.answered()
