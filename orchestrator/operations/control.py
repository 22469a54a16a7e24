"""The pipeline that runs in this folder, for the commands that talk to it. They need no valid pipeline file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from orchestrator.cli.context import App
from orchestrator.config.model import state_dir_of
from orchestrator.errors import KpipeError, UsageError
from orchestrator.supervisor.control.client import PATIENCE, NoAnswer, ask
from orchestrator.supervisor.control.lock import Holder, find_socket, holder

#: A running `up` has its socket from the first second on, save while it fetches Kafka.
_STARTING_SECONDS = 3.0
_LOOK_EVERY = 0.05


def state_dir(app: App) -> Path:
    """Where `kpipe up` with the same files keeps its state."""
    return state_dir_of(app.files[0].absolute().parent, os.environ)


def running(folder: Path) -> Holder | None:
    """The `kpipe up` of this folder, or None."""
    return holder(folder)


def ask_it(folder: Path, method: str, target: str, patience: float = PATIENCE) -> Any:
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


def ask_running(folder: Path, method: str, target: str, patience: float = PATIENCE) -> Any:
    """As `ask_it`, for what only a running pipeline can do. Raises `UsageError` when none runs."""
    answer = ask_it(folder, method, target, patience) if holder(folder) is not None else None
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
