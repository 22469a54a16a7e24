"""`kpipe up`: the whole pipeline in the foreground."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, FindingsError, UsageError

if TYPE_CHECKING:
    from orchestrator.cli.running.detach import Detached
    from orchestrator.config.model import Pipeline


@click.command("up")
@click.argument("handlers", nargs=-1, metavar="[HANDLER]...")
@click.option(
    "--kafka",
    type=click.Choice(["local", "docker"]),
    help="How to run Kafka when kafka.bootstrap is empty.  [default: local]",
)
@click.option("--no-sync", is_flag=True, help="Leave the topics as they are.")
@click.option("-d", "--detach", "detached", is_flag=True, help="Run it in the background, and return once it runs.")
@click.option("--wait", is_flag=True, help="With -d (which it implies): return when every handler is ready.")
@click.option(
    "--wait-timeout", type=DURATION, metavar="DURATION", help="With --wait: end with 124 after it.  [default: 2m]"
)
@click.option("--scale", "scale", multiple=True, metavar="HANDLER=N", help="Run N replicas of a handler.")
@click.option("--watch", is_flag=True, help="Reload handlers when their files or the pipeline file change.")
@click.option("--abort-on-failure", is_flag=True, help="Stop everything when a handler fails for good.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Serve metrics for Prometheus on 127.0.0.1:PORT/metrics; 0 takes a free port.",
)
@click.pass_obj
def command(
    app: App,
    handlers: tuple[str, ...],
    kafka: Literal["local", "docker"] | None,
    no_sync: bool,
    detached: bool,
    wait: bool,
    wait_timeout: float | None,
    scale: tuple[str, ...],
    watch: bool,
    abort_on_failure: bool,
    metrics_port: int | None,
) -> int:
    """Start Kafka, bring the topics up to date, start the handlers, and show what they print.

    With names, only these handlers. Without -d it stays in the foreground: Ctrl-C (or `kpipe down` elsewhere) stops the
    handlers in order, what produces first, and then the Kafka that it started; a second Ctrl-C kills them.

    A handler that crashes is started again, later each time; after five failures within a minute it rests and the
    others run on. One that cannot start ends everything. Ends with 5 when a handler failed, 4 without Kafka.
    """
    if wait_timeout is not None and not wait:
        raise UsageError("--wait-timeout says how long --wait waits", "give --wait, too")
    handover = None
    if detached or wait:
        from orchestrator.cli.running.detach import Detached, detach

        end = detach(until_ready=wait)
        if isinstance(end, Detached):
            return _follow(app, end, wait, 120.0 if wait_timeout is None else wait_timeout)
        handover = end

    import os
    from functools import partial

    from orchestrator.cli.render.broker_progress import Steps
    from orchestrator.cli.render.up_output import UpOutput
    from orchestrator.cli.running.scale import parse_counts
    from orchestrator.kafka.clients import Clients
    from orchestrator.up.broker import ground_for
    from orchestrator.up.child_specs import chosen
    from orchestrator.up.replicas import scaled
    from orchestrator.up.session import UpOptions, run

    pipeline = _load(app)
    selected = scaled(chosen(pipeline, handlers), parse_counts(scale))

    def answers(bootstrap: str) -> bool:
        return Clients(pipeline.kafka, bootstrap).answers()

    ground = ground_for(pipeline, kafka, answers, os.environ, Steps())
    files = tuple(path.absolute() for path in app.files)
    order = UpOptions(pipeline, files, selected, not no_sync, abort_on_failure, metrics_port, handlers, watch, handover)
    return run(order, ground, partial(UpOutput, json=app.json, detached=handover is not None))


def _follow(app: App, started: Detached, wait: bool, seconds: float) -> int:
    """The command that stays at the terminal, until the other one runs, or (`wait`) is ready."""
    from orchestrator.operations.control import state_dir, status_of_running
    from orchestrator.operations.readiness import Deadline, until_ready

    deadline = Deadline(seconds if wait else math.inf)
    started.wait_started(deadline)
    if wait and started.exit_code is None:
        started.wait_settled(deadline)
    if started.exit_code is not None:
        return started.exit_code
    folder = state_dir(app.files[0])
    if wait and not started.is_ready:
        until_ready(folder, (), deadline, began=True)  # which says what cannot get ready
    if app.json:
        bootstrap = status_of_running(folder).bootstrap
        output.json_line({"pid": started.pid, "bootstrap": bootstrap, "ready": started.is_ready})
    elif not started.is_ready:
        output.say("it runs, and is not ready yet; next: `kpipe wait ready` · `kpipe ps` · `kpipe down` stops it")
    return EXIT_OK


def _load(app: App) -> Pipeline:
    """The pipeline with its schemas; its warnings are shown. Raises `FindingsError` for it and for its schemas."""
    from orchestrator.contracts import with_schemas

    loaded = app.read()
    if loaded.pipeline is None:
        raise FindingsError(loaded.findings)
    for finding in loaded.findings:
        output.say(output.finding_text(finding))
    return with_schemas(loaded.pipeline)
