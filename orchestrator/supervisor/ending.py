"""When the whole of `kpipe up` ends by itself, and with which exit code. Pure, like policy.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.errors import EXIT_HANDLER, EXIT_OK
from orchestrator.supervisor.policy import FAILURES, OVER, Life, State
from orchestrator.supervisor.spec import ChildSpec

#: The stage of what the handlers run on, such as the local broker. It does not count as "still running".
GROUND = 0


class Ending(NamedTuple):
    """Why `up` ends. `code` is its exit code; reason and hint are for the person at the terminal."""

    code: int
    reason: str
    hint: str = ""


def ending(children: Sequence[tuple[ChildSpec, Life]], patient: bool = False) -> Ending | None:
    """The first of the reasons to end that holds, or None while there is something left to do.

    `patient`: somebody may mend what has failed and start it again, unless it is essential.
    """
    for spec, life in children:
        if patient and spec.stage != GROUND:
            continue
        if life.state is State.FAILED_TO_START and life.restarts == life.asked == 0:
            return Ending(spec.failure_code, f"{spec.name} could not start")
    for spec, life in children:
        if spec.essential and life.state in FAILURES:
            return Ending(spec.failure_code, f"{spec.name} is essential and has failed for good")
    if patient:
        return None
    handlers = [life for spec, life in children if spec.stage != GROUND]
    if not handlers or any(life.state not in OVER for life in handlers):
        return None
    if any(life.state in FAILURES for life in handlers):
        return Ending(EXIT_HANDLER, "no handler is left running")
    return Ending(EXIT_OK, "every handler has ended")


def failure(spec: ChildSpec, life: Life) -> Ending | None:
    """What this child adds to the exit code: a failure for good, or an end that was not an orderly stop."""
    how = life.exit.text if life.exit else "it did not run"
    if life.state is State.FAILED_TO_START:
        why = life.refusal.message if life.refusal else how
        return Ending(
            spec.failure_code, f"{spec.name} could not start: {why}", life.refusal.hint if life.refusal else ""
        )
    if life.state is State.CRASH_LOOP:
        return Ending(spec.failure_code, f"{spec.name} failed {len(life.failures)} times in a row ({how})")
    if life.state is State.FAILED:
        return Ending(spec.failure_code, f"{spec.name} failed ({how})")
    if life.state is State.STOPPED and life.terminated and (life.exit is None or not life.exit.orderly):
        return Ending(spec.failure_code, f"{spec.name} did not stop in order ({how})")
    return None
