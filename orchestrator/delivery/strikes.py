"""Strikes: proofs that an event kills or hangs the process that handles it. DESIGN section 5, step 8.

Rules:
- Only a run with no other event beside it proves anything: the event was alone with its process.
- Its process died by itself (a crash, an exit, out of memory): one strike. By SIGTERM: none, somebody wanted it to end.
- By SIGKILL, or lost with its machine: a third of one. Mostly somebody else did that, but an event may do it as well.
- It did not come back in time: one strike if another event ended well since its previous run, else none: then what it
  waits for may be away, and that is the breaker's business.
- At `most` strikes the event is given up. A letter is never given up: its lane stalls.

Strikes are counted in thirds, and ride in the commit's metadata, so that whoever gets the partition next counts on.
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.config.model import RetryPolicy
from orchestrator.delivery.backoff import delay_of
from orchestrator.delivery.outcome import Bury, Failed, Park

WHOLE = 3
_LOST = 1


class Strikes(NamedTuple):
    """What is held against one event. `solo`: a run of it alone was begun, and nothing was heard of its end."""

    thirds: int = 0
    solo: bool = False

    def found(self) -> Strikes:
        """As whoever finds them in a commit has to count them: a run whose end nobody saw was lost."""
        return Strikes(self.thirds + _LOST) if self.solo else self


def thirds_of(signal: str) -> int:
    """What the end of an event's own process counts: by the `signal` of this name ("" for an exit)."""
    return {"SIGTERM": 0, "SIGKILL": _LOST}.get(signal, WHOLE)


def after_solo(
    strikes: Strikes,
    failed: Failed,
    waits: int,
    most: int,
    policy: RetryPolicy,
    *,
    evidence: bool,
    is_letter: bool,
    chance: float,
) -> tuple[Strikes, Park | Bury]:
    """What is held against an event whose run alone ended in `failed` (`crash` or `hang`), and what follows.

    `evidence`: another event ended well since this one's previous run. `waits` and `chance` as in `decide`.
    """
    more = failed.thirds if failed.verdict == "crash" else WHOLE * evidence
    now = Strikes(strikes.thirds + more)
    if now.thirds < most * WHOLE:
        return now, Park(delay_of(waits + 1, policy.backoff, policy.max_backoff, chance), spend=False)
    if is_letter:
        return now, Park(policy.max_backoff, spend=False, stalled=True)
    return now, Bury("crash" if failed.verdict == "crash" else "timeout")
