"""The pipeline that runs in this folder, for the commands that talk to it. They need no valid pipeline file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from orchestrator.config.model import state_dir_of
from orchestrator.errors import KpipeError, UsageError
from orchestrator.supervisor.control.client import PATIENCE, NoAnswer, ask
from orchestrator.supervisor.control.lock import Holder, find_socket, holder
from orchestrator.supervisor.control.status import PipelineStatus, StopStatus

#: A running `up` has its socket from the first second on, save while it fetches Kafka.
_STARTING_SECONDS = 3.0
_LOOK_EVERY = 0.05
#: What reading the files again and changing topics may take (seconds).
_READING_SECONDS = 120.0


def state_dir(file: Path) -> Path:
    """Where `kpipe up` with this pipeline file (the first, of several) keeps its state."""
    return state_dir_of(file.absolute().parent, os.environ)


def running(folder: Path) -> Holder | None:
    """The `kpipe up` whose state is in this folder, or None."""
    return holder(folder)


def status(folder: Path) -> PipelineStatus | None:
    """What the running `up` says of itself; None when none runs, or it ends meanwhile. Raises `NoAnswer`."""
    answer = _ask(folder, "GET", "/v1/ps") if running(folder) is not None else None
    return None if answer is None else PipelineStatus.from_json(answer)


def status_of_running(folder: Path) -> PipelineStatus:
    """As `status`. Raises `UsageError` when none runs."""
    return PipelineStatus.from_json(_ask_running(folder, "GET", "/v1/ps"))


def stop(folder: Path, seconds: float | None) -> StopStatus | None:
    """Ask for an orderly stop within `seconds` (None: the handlers' stop timeouts). None when it ends meanwhile.

    Raises `NoAnswer`.
    """
    answer = _ask(folder, "POST", "/v1/down" if seconds is None else f"/v1/down?timeout={seconds}")
    return None if answer is None else StopStatus.from_json(answer)


def restart(folder: Path, names: Iterable[str]) -> None:
    """Restart handlers with the files read again. Raises `FindingsError` for those, and `UsageError`."""
    _ask_running(folder, "POST", f"/v1/restart?{urlencode([('handler', name) for name in names])}", _READING_SECONDS)


def scale(folder: Path, counts: Mapping[str, int]) -> None:
    """Ask for so many replicas of each handler. Raises `UsageError`."""
    query = urlencode([pair for name, count in counts.items() for pair in (("handler", name), ("replicas", count))])
    _ask_running(folder, "POST", f"/v1/scale?{query}")


def _ask(folder: Path, method: str, target: str, patience: float = PATIENCE) -> Any:
    """What the running `up` answers within `patience` seconds; None when it ends meanwhile. Raises `NoAnswer`."""
    deadline = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            return ask(find_socket(folder), method, target, patience)
        except NoAnswer:
            if holder(folder) is None:
                return None
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOOK_EVERY)


def _ask_running(folder: Path, method: str, target: str, patience: float = PATIENCE) -> Any:
    answer = _ask(folder, method, target, patience) if holder(folder) is not None else None
    if answer is None:
        raise UsageError(f"nothing runs in {folder.parent}", "`kpipe up` starts it")
    return answer


def wait_until_gone(folder: Path, seconds: float, was: Holder) -> None:
    """Return when the running `up` has ended. Raises `KpipeError` after `seconds`."""
    deadline = time.monotonic() + seconds
    while (now := holder(folder)) is not None and (now.pid in (0, was.pid) or was.pid == 0):
        if time.monotonic() > deadline:
            one = f"`kill -9 {now.pid}`" if now.may_be_signalled else "the end of the process that holds up.lock"
            raise KpipeError(
                f"the pipeline ({was.text}) has not stopped within {seconds:.0f} s",
                f"{one} ends it and everything it started",
            )
        time.sleep(_LOOK_EVERY)
