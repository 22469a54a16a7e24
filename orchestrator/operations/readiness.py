"""Waiting for a running pipeline: until its handlers are ready, or until it has nothing left to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from orchestrator.errors import HandlerError, KpipeError, UsageError, WaitTimeout
from orchestrator.supervisor.control.status import HandlerStatus, PipelineStatus
from orchestrator.supervisor.policy import FAILURES, State
from orchestrator.text import did_you_mean

LOOK_EVERY = 0.1

Handlers = Sequence[HandlerStatus]


class Deadline:
    """So many seconds from now on; for ever when they are infinite."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._at - time.monotonic())

    def pause(self, seconds: float, what: Callable[[], str]) -> None:
        """Sleep for `seconds`, but not past the end. Raises `WaitTimeout`, which then tells `what` is missing."""
        if self.left <= 0:
            raise WaitTimeout(f"not within {self.seconds:g} s: {what()}", "`kpipe ps` and `kpipe logs` show more")
        time.sleep(seconds if math.isinf(self.left) else min(seconds, self.left))


def until_ready(folder: Path, names: Sequence[str], deadline: Deadline, *, began: bool = False) -> None:
    """Return when the handlers (all that are to run, without `names`) are ready.

    A pipeline that does not run yet is waited for, unless it surely `began`. Raises `HandlerError` when one cannot get
    ready any more, `WaitTimeout`, `UsageError` for an unknown name, and `KpipeError` when the pipeline ends meanwhile.
    """
    seen = began
    while True:
        answer = look(folder, seen=seen)
        seen = seen or answer is not None
        missing = ["`kpipe up` is not running"] if answer is None else not_ready(answer, names)
        if not missing:
            return
        deadline.pause(LOOK_EVERY, partial(", ".join, missing))


def until_scaled(folder: Path, counts: Mapping[str, int], deadline: Deadline) -> None:
    """Return when so many replicas of each are ready, and no others are left. Raises as `until_ready` does."""
    while True:
        answer = look(folder, seen=True)
        handlers = [h for h in answer.handlers if h.name in counts] if answer else []
        for handler in handlers:
            if counts[handler.name]:
                refuse_failed(handler)
        missing = [
            f"{h.name} ({h.ready} of {counts[h.name]} ready, {h.replicas} there)"
            for h in handlers
            if not h.ready == h.replicas == counts[h.name]
        ]
        if not missing:
            return
        deadline.pause(LOOK_EVERY, partial(", ".join, missing))


def look(folder: Path, *, seen: bool) -> PipelineStatus | None:
    """What the running `up` says of itself; None when none runs. Raises `KpipeError` when it was `seen` and ends."""
    from orchestrator.operations.control import status

    answer = status(folder)
    if (answer is None and seen) or (answer is not None and answer.phase == "stopping"):
        raise KpipeError("the pipeline stopped while it was waited for", "`kpipe logs _up` tells why")
    return answer


def not_ready(answer: PipelineStatus, names: Sequence[str]) -> list[str]:
    """What is missing, `name (state)` for each handler. Raises `HandlerError` for what will not become ready."""
    handlers = wanted(answer.handlers, names)
    if answer.phase != "running":
        return ["the handlers are not started yet"]
    for handler in handlers:
        refuse_failed(handler)
    return [f"{h.name} ({h.state})" for h in handlers if h.ready < h.replicas]


def wanted(handlers: Handlers, names: Sequence[str]) -> Handlers:
    """The named ones; without names all that are to run. Raises `UsageError`."""
    by_name = {handler.name: handler for handler in handlers}
    for name in names:
        if name not in by_name:
            raise UsageError(f"the running pipeline has no handler `{name}`", did_you_mean(name, by_name))
        if by_name[name].replicas == 0:
            raise UsageError(f"`{name}` is not to run", f"`kpipe scale {name}=1` starts one")
    return [h for h in handlers if (h.name in names if names else h.replicas > 0)]


def refuse_failed(handler: HandlerStatus) -> None:
    """Raise `HandlerError` when one of its replicas has failed for good or has ended."""
    if handler.state in FAILURES:
        why = handler.last_error or handler.state
        raise HandlerError(f"{handler.name} ({handler.state}): {why}", f"`kpipe logs {handler.name}`")
    # It ended by itself: whoever waits for it would wait for ever, and it is not ready either.
    if any(one.state == State.STOPPED for one in handler.instances):
        raise HandlerError(f"{handler.name} has ended", f"`kpipe restart {handler.name}` starts it again")
