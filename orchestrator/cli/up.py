"""`kpipe up`: the whole pipeline in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from orchestrator.cli import present
from orchestrator.cli.context import App
from orchestrator.errors import FindingsError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline


@click.command("up")
@click.argument("handlers", nargs=-1, metavar="[HANDLER]...")
@click.option(
    "--kafka",
    type=click.Choice(["local", "docker"]),
    help="How to run Kafka when kafka.bootstrap is empty.  [default: local]",
)
@click.option("--no-sync", is_flag=True, help="Leave the topics as they are.")
@click.option("--scale", "scale", multiple=True, metavar="HANDLER=N", help="Run N replicas of a handler.")
@click.option("--abort-on-failure", is_flag=True, help="Stop everything when a handler fails for good.")
@click.pass_obj
def command(
    app: App,
    handlers: tuple[str, ...],
    kafka: Literal["local", "docker"] | None,
    no_sync: bool,
    scale: tuple[str, ...],
    abort_on_failure: bool,
) -> int:
    """Start Kafka, bring the topics up to date, start the handlers, and show what they print.

    With names, only these handlers. It stays in the foreground: Ctrl-C (or `kpipe down` elsewhere) stops the
    handlers in order, what produces first, and then the Kafka that it started; a second Ctrl-C kills them.

    A handler that crashes is started again, later each time; after five failures within a minute it rests and the
    others run on. One that cannot start ends everything. Ends with 5 when a handler failed, 4 without Kafka.
    """
    import os

    from orchestrator.cli.fleet import scaled
    from orchestrator.cli.ground import ground_for
    from orchestrator.cli.launch import chosen
    from orchestrator.cli.scale import parse_counts
    from orchestrator.cli.session import Order, run
    from orchestrator.cli.steps import Steps
    from orchestrator.kafka.ping import ping
    from orchestrator.kafka.properties import client_properties

    pipeline = _load(app)
    selected = scaled(chosen(pipeline, handlers), parse_counts(scale))

    def answers(bootstrap: str) -> bool:
        return ping(bootstrap, client_properties(pipeline.kafka, "admin", bootstrap))

    ground = ground_for(pipeline, kafka, answers, os.environ, Steps())
    files = tuple(path.absolute() for path in app.files)
    return run(Order(pipeline, files, selected, not no_sync, app.json, abort_on_failure), ground)


def _load(app: App) -> Pipeline:
    """The pipeline, with its warnings shown. Raises `FindingsError` for it and for its schemas."""
    from orchestrator.contracts import load_contracts

    loaded = app.read()
    if loaded.pipeline is None:
        raise FindingsError(loaded.findings)
    for finding in loaded.findings:
        present.say(present.finding_text(finding))
    load_contracts(loaded.pipeline)
    return loaded.pipeline
