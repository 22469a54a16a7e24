"""`kpipe wait`: until the running pipeline is ready, or has nothing left to do."""

from __future__ import annotations

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output

_TIMEOUT = click.option(
    "--timeout", type=DURATION, default="60s", show_default=True, metavar="DURATION", help="End with 124 after it."
)


@click.group("wait")
def command() -> None:
    """Wait for the pipeline that `kpipe up` runs for this folder, for scripts that must not sleep.

    A pipeline that does not run yet is waited for. Ends with 124 when the time is over, with 5 when a handler has
    failed for good.
    """


@command.command("ready")
@click.argument("handlers", nargs=-1, metavar="[HANDLER]...")
@_TIMEOUT
@click.pass_obj
def ready(app: App, handlers: tuple[str, ...], timeout: float) -> None:
    """Wait until every handler (or each named one) has its partitions, or answers its probe."""
    from orchestrator.operations.control import state_dir
    from orchestrator.operations.readiness import Deadline, until_ready

    until_ready(state_dir(app.files[0]), handlers, Deadline(timeout))
    _said(app, "ready")


@command.command("idle")
@_TIMEOUT
@click.pass_obj
def idle(app: App, timeout: float) -> None:
    """Wait until all events are settled and no new ones come.

    Idle means: two looks a second apart find the same ends of all topics, every handler's committed offset at
    the end, nothing in flight, parked or paused, and every partition held by a worker.
    """
    from orchestrator.operations.idle import until_idle
    from orchestrator.operations.readiness import Deadline

    pipeline = app.load()
    until_idle(pipeline.state_dir, pipeline, Deadline(timeout))
    _said(app, "idle")


def _said(app: App, what: str) -> None:
    if app.json:
        output.json_line({"state": what})
    else:
        output.say(what)
