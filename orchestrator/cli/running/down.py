"""`kpipe down`: stop the running pipeline."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import KpipeError
from orchestrator.outside import shown

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.model import Pipeline
    from orchestrator.supervisor.control.lock import Holder

#: How long an `up` that has nothing running yet gets to end (seconds).
_PLAIN_SECONDS = 30.0


@click.command("down")
@click.option("-v", "--volumes", "volumes", is_flag=True, help="Also delete kpipe's own Kafka's data, and .kpipe.")
@click.option(
    "-t",
    "--timeout",
    "seconds",
    type=click.IntRange(0, 86_400),
    metavar="SECONDS",
    help="Kill handlers after it, instead of their stop-timeout.",
)
@click.pass_obj
def command(app: App, volumes: bool, seconds: int | None) -> None:
    """Stop the pipeline that `kpipe up` runs for this folder, and wait until it has stopped.

    The handlers stop in order, what produces first; each gets its stop-timeout. Kafka is stopped if `kpipe up`
    started it: one that runs by `kpipe broker start`, or that the file names, is left alone. Nothing running is fine.

    With -v the next `kpipe up` begins from nothing: all events, logs and whatever handlers keep under .kpipe are
    deleted. Of a cluster that the file names nothing is deleted, and then only the logs are.
    """
    from orchestrator.operations.control import running, state_dir, wait_until_gone

    folder = state_dir(app.files[0])
    pipeline = _to_be_wiped(app) if volumes else None
    found = running(folder)
    if found is not None:
        wait_until_gone(folder, _ask_to_stop(folder, found, seconds), found)
    left_over = _stop_left_over(folder)
    _tell(folder, found, left_over)
    if pipeline is not None:
        _wipe(pipeline)


def _to_be_wiped(app: App) -> Pipeline:
    """Which Kafka the file means has to be known for that. Raises `FindingsError`, or `UsageError` while it runs."""
    from orchestrator.up.wipe import check_wipe

    pipeline = app.load()
    check_wipe(pipeline)
    return pipeline


def _wipe(pipeline: Pipeline) -> None:
    from orchestrator.kafka.ping import ping
    from orchestrator.up.wipe import wipe

    wipe(pipeline, os.environ, ping)
    if pipeline.kafka.bootstrap:
        output.say(f"deleted the logs; the cluster at {shown(pipeline.kafka.bootstrap)} keeps its topics and groups")
    else:
        output.say("deleted Kafka's data, the logs and everything else in .kpipe")


def _tell(folder: Path, found: Holder | None, left_over: bool) -> None:
    if found is not None:
        output.say("stopped")
    elif left_over:
        output.say("stopped the Kafka that a killed `kpipe up` had left behind")
    else:
        output.say(f"nothing runs in {output.safe(str(folder.parent))}; `kpipe up` starts it")


def _ask_to_stop(folder: Path, found: Holder, seconds: int | None) -> float:
    """Ask; returns how many seconds it may take."""
    from orchestrator.operations.control import stop
    from orchestrator.supervisor.control.client import NoAnswer

    try:
        answer = stop(folder, seconds)
    except NoAnswer:
        # It fetches or prepares Kafka and has no socket yet.
        _signal(folder)
        return _PLAIN_SECONDS
    return answer.within if answer else _PLAIN_SECONDS


def _signal(folder: Path) -> None:
    """Send SIGTERM to the holder of the lock. Raises `KpipeError` when the lock does not say for sure which that is."""
    from orchestrator.operations.control import running

    now = running(folder)
    if now is None:
        return
    if not now.may_be_signalled:
        raise KpipeError(
            f"another process holds {folder / 'up.lock'}, but does not answer, and is not known for sure ({now.text})",
            f"`lsof {folder / 'up.lock'}` shows which one; end that",
        )
    with contextlib.suppress(ProcessLookupError):
        os.kill(now.pid, signal.SIGTERM)


def _stop_left_over(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    from orchestrator.kafka.ping import ping
    from orchestrator.up.broker import stop_left_over

    return stop_left_over(folder, os.environ, ping)
