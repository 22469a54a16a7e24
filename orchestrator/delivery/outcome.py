"""What one run of a handler came to, and what follows from a failure. DESIGN section 5, steps 3, 5 and 6.

Rules:
- `Reject` and a broken output are final at once; they cost no further attempt.
- `Unavailable` blames no event: it waits, spends no attempt, and never ends in a DLQ.
- Everything else costs an attempt; the last one ends in the DLQ.
- A letter (an event read from a DLQ) is never dead-lettered again: where an event would be, its lane stalls.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from orchestrator.config.model import RetryPolicy
from orchestrator.delivery.backoff import delay_of
from orchestrator.event import Reject, Retry, Unavailable

Verdict = Literal["retry", "reject", "unavailable", "timeout", "output", "decode", "schema", "crash", "hang"]
Reason = Literal["decode", "schema", "rejected", "exhausted", "crash", "timeout", "output"]

_REASON: dict[Verdict, Reason] = {
    "retry": "exhausted",
    "unavailable": "exhausted",
    "timeout": "timeout",
    "reject": "rejected",
    "output": "output",
    "decode": "decode",
    "schema": "schema",
    "crash": "crash",
    "hang": "timeout",
}
_FINAL: frozenset[Verdict] = frozenset({"reject", "output", "decode", "schema"})


@dataclass(frozen=True, slots=True)
class Failed:
    """One failed run. `after` is the delay in seconds that the handler asked for (None: the policy's backoff).

    `violations` are `(json_path, message)`; `frame` names the code that raised, as `module:function:line`.
    `crash` and `hang` are of a process that the event had for itself: `exit` says how that ended, `thirds` what it
    counts (delivery/strikes.py).
    """

    verdict: Verdict
    message: str
    error_type: str = ""
    stack: str = ""
    frame: str = ""
    after: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    exit: str = ""
    thirds: int = 0


@dataclass(frozen=True, slots=True)
class Park:
    """Try again after `delay` seconds; `spend` says whether this run counts as an attempt.

    `stalled` marks a wait that only an operator or a recovered system ends: it raises an alarm.
    """

    delay: float
    spend: bool
    stalled: bool = False


@dataclass(frozen=True, slots=True)
class Bury:
    """Give the event up: write its dead letter (or log and skip it where the handler has no DLQ)."""

    reason: Reason


def decide(
    failed: Failed,
    attempts: int,
    waits: int,
    policy: RetryPolicy,
    *,
    is_letter: bool,
    chance: float,
    spared: bool = False,
) -> Park | Bury:
    """What follows from `failed`.

    `attempts` counts this run too; `waits` counts the `Unavailable` runs in a row so far; `chance` is uniform in
    [0, 1) and spreads the delay. `spared`: the breaker is not closed, so that a timeout blames no event either.
    """
    if failed.verdict == "unavailable" or (failed.verdict == "timeout" and spared):
        return Park(_delay(failed, waits + 1, policy, chance), spend=False)
    final = failed.verdict in _FINAL or attempts >= policy.attempts
    if not final:
        return Park(_delay(failed, attempts, policy, chance), spend=True)
    if is_letter:
        return Park(policy.max_backoff, spend=False, stalled=True)
    return Bury(_REASON[failed.verdict])


def _delay(failed: Failed, nth: int, policy: RetryPolicy, chance: float) -> float:
    backoff = delay_of(nth, policy.backoff, policy.max_backoff, chance)
    if failed.after is None:
        return backoff
    # What is away is not asked without a pause, whatever it says.
    return max(failed.after, policy.backoff if failed.verdict == "unavailable" else 0.0)


def classify(error: BaseException, unavailable: tuple[type[BaseException], ...] = ()) -> Failed:
    """The outcome that an exception stands for.

    `ConnectionError` and `TimeoutError` anywhere in the chain of causes mean that something is away, and so do the
    classes that the handler lists under `unavailable`.
    """
    away = (Unavailable, ConnectionError, TimeoutError, *unavailable)
    verdict: Verdict = "retry"
    if isinstance(error, Reject):
        verdict = "reject"
    elif not isinstance(error, Retry) and any(isinstance(e, away) for e in _chain(error)):
        verdict = "unavailable"
    after = _seconds(getattr(error, "after", None)) if isinstance(error, Retry | Unavailable) else None
    return Failed(
        verdict=verdict,
        message=_message(error),
        error_type=_type_name(error),
        stack="".join(traceback.format_exception(error)),
        frame=_frame(error),
        after=after,
    )


def _seconds(after: Any) -> float | None:
    """The delay that a handler asked for; None where it is no number of seconds (a date, say, from a header)."""
    try:
        seconds = float(after)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if isfinite(seconds) else None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it, the members of exception groups included; cycles end the walk.

    Contexts count even behind `raise … from None`: client libraries hide a refused connection so (httpcore does).
    """
    chain: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        at = ahead.pop()
        if at is None or any(at is known for known in chain):  # `is`: an `__eq__` of the handler's may raise
            continue
        chain.append(at)
        ahead.append(at.__cause__ or at.__context__)
        if isinstance(at, BaseExceptionGroup):
            ahead.extend(at.exceptions)
    return chain


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - a handler's own __str__ may raise anything
        return f"<{type(error).__name__} whose __str__ raised {type(broken).__name__}>"


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _frame(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else ""
