"""`kpipe down`: stop the running pipeline."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import click

from orchestrator.cli import present
from orchestrator.cli.context import App

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.supervisor.place import Holder

#: How long an `up` that has nothing running yet gets to end (seconds).
_PLAIN_SECONDS = 30.0


@click.command("down")
@click.pass_obj
def command(app: App) -> None:
    """Stop the pipeline that `kpipe up` runs for this folder, and wait until it has stopped.

    The handlers stop in order, what produces first; each gets its stop-timeout. Kafka is stopped if `kpipe up`
    started it: one that runs by `kpipe broker start`, or that the file names, is left alone. Nothing running is fine.
    """
    from orchestrator.cli.running import running, state_dir, wait_until_gone

    folder = state_dir(app)
    found = running(folder)
    if found is not None:
        wait_until_gone(folder, _ask_to_stop(folder, found), found)
    left_over = _stop_left_over(folder)
    if found is not None:
        present.say("stopped")
    elif left_over:
        present.say("stopped the Kafka that a killed `kpipe up` had left behind")
    else:
        present.say(f"nothing runs in {present.safe(str(folder.parent))}; `kpipe up` starts it")


def _ask_to_stop(folder: Path, found: Holder) -> float:
    """Ask; returns how many seconds it may take."""
    from orchestrator.cli.running import ask_it
    from orchestrator.supervisor.client import NoAnswer

    try:
        answer = ask_it(folder, "POST", "/v1/down")
    except NoAnswer:
        # It fetches or prepares Kafka and has no socket yet. The process is surely that one: it holds the lock.
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
        return _PLAIN_SECONDS
    return float(answer["within"]) if answer else _PLAIN_SECONDS


def _stop_left_over(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    from orchestrator.cli.ground import stop_left_over
    from orchestrator.kafka.ping import ping

    return stop_left_over(folder, os.environ, ping)
