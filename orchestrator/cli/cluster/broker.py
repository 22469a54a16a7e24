"""`kpipe broker`: the Kafka of this pipeline alone, without its handlers."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_BROKER, EXIT_OK, UsageError
from orchestrator.outside import shown

if TYPE_CHECKING:
    from orchestrator.brokers import BrokerStatus, DockerBroker, ExternalBroker, LocalBroker
    from orchestrator.config.model import KafkaSettings

_WHICH = click.option(
    "--kafka",
    type=click.Choice(["local", "docker"]),
    help="Which one when kafka.bootstrap is empty.  [default: the one that runs, else local]",
)


@click.group("broker")
def command() -> None:
    """The Apache Kafka of this pipeline, alone.

    It keeps running until `kpipe broker stop`, and keeps its data between runs. `kpipe up` uses it when it runs
    and starts one for itself when it does not. A Kafka that the file names (kafka.bootstrap) is only looked at.
    """


@command.command("start")
@_WHICH
@click.option("--timeout", default=90.0, show_default=True, metavar="SECONDS", help="How long Kafka may take.")
@click.pass_obj
def start(app: App, kafka: str | None, timeout: float) -> int:
    """Start it and wait until it answers; fine when it runs already.

    The first time it fetches Kafka (see `kpipe broker fetch`).
    """
    app.load()  # with a mistake in the file, which Kafka it means can't be known
    broker = _broker(app, kafka)
    running = broker.status().state == "running"
    address = broker.start(timeout)
    if app.json:
        output.json_line(_as_json(broker.status()))
    else:
        output.data(shown(address))
        output.say(f"Kafka {'already runs' if running else 'runs'} at {shown(address)}; next: `kpipe topics sync`")
    return EXIT_OK


@command.command("stop")
@_WHICH
@click.option("--timeout", default=30.0, show_default=True, metavar="SECONDS", help="Kill it after this time.")
@click.pass_obj
def stop(app: App, kafka: str | None, timeout: float) -> int:
    """Stop it and keep its data; fine when it does not run."""
    stopped = _broker(app, kafka).stop(timeout)
    if app.json:
        output.json_line({"stopped": stopped})
    else:
        output.say("Kafka is stopped; its data is kept" if stopped else "no Kafka of this pipeline runs")
    return EXIT_OK


@command.command("status")
@_WHICH
@click.pass_obj
def status(app: App, kafka: str | None) -> int:
    """Show whether it runs, and where. Ends with 0 when Kafka answers, else with 4."""
    found = _broker(app, kafka).status()
    if app.json:
        output.json_line(_as_json(found))
    else:
        known = {name: value for name, value in _as_json(found).items() if value is not None}
        width = max(map(len, known))
        for name, value in known.items():
            output.data(f"{name.replace('_', ' '):<{width}}  {output.safe(str(value))}")
    return EXIT_OK if found.state == "running" else EXIT_BROKER


@command.command("fetch")
@click.option("--kafka", type=click.Choice(["local", "docker"]), default="local", show_default=True, help="Which one.")
@click.pass_obj
def fetch(app: App, kafka: str) -> int:
    """Fetch the local Kafka into the per-user cache, once for all projects; fine when it is there.

    By Maven where `mvn` is installed, else the official release with its checksum; with `--kafka docker`, the image.
    Needs no pipeline file.
    """
    answer = _pull(app) if kafka == "docker" else _fetch()
    if app.json:
        output.json_line(answer)
        return EXIT_OK
    if answer["libs"]:
        output.data(str(answer["libs"]))
    how = "is fetched" if answer["fetched"] else "is there already"
    output.say(f"Kafka {answer['version']} {how} ({answer['source']})")
    return EXIT_OK


def _fetch() -> dict[str, object]:
    from orchestrator.brokers.install.distribution import find_kafka, provide_kafka

    there = find_kafka(os.environ) is not None
    kafka = provide_kafka(os.environ, _steps())
    return {"version": kafka.version, "libs": str(kafka.libs), "source": kafka.source, "fetched": not there}


def _pull(app: App) -> dict[str, object]:
    from orchestrator.brokers import DockerBroker
    from orchestrator.brokers.install.pins import VERSION

    broker = DockerBroker(_state_dir(app), lambda _: False, notify=_steps())
    return {"fetched": broker.fetch(), "version": VERSION, "libs": None, "source": "docker"}


def _broker(app: App, kind: str | None) -> LocalBroker | DockerBroker | ExternalBroker:
    """What the file, `--kafka` and the record under `.kpipe` say together."""
    from orchestrator.brokers import DockerBroker, ExternalBroker, LocalBroker, recorded

    settings, state_dir = _project(app)
    ping = partial(_ping, settings)
    if settings.bootstrap and kind is not None:
        raise UsageError(
            f"--kafka {kind} and kafka.bootstrap ({shown(settings.bootstrap)}) contradict each other",
            "leave kafka.bootstrap empty for a Kafka that kpipe runs",
        )
    if settings.bootstrap:
        return ExternalBroker(settings.bootstrap, ping)
    if kind is None:
        known = recorded(state_dir)
        kind = known.kind if known else "local"
    if kind == "docker":
        return DockerBroker(state_dir, ping, notify=_steps())
    return LocalBroker(state_dir, ping, notify=_steps())


def _project(app: App) -> tuple[KafkaSettings, Path]:
    """The file's Kafka settings, and its folder's state.

    Mistakes elsewhere in the file don't matter here: a broker has to be stoppable with a half-written file.
    """
    from orchestrator.config.model import KafkaSettings

    pipeline = app.read().pipeline
    if pipeline is not None:
        return pipeline.kafka, pipeline.state_dir
    output.say("the pipeline file has errors (`kpipe validate` shows them); going on with a Kafka of kpipe's own")
    return KafkaSettings(), _state_dir(app)


def _state_dir(app: App) -> Path:
    from orchestrator.config.model import state_dir_of

    return state_dir_of(app.files[0].absolute().parent, os.environ)


def _ping(settings: KafkaSettings, bootstrap: str) -> bool:
    from orchestrator.kafka.clients import Clients

    return Clients(settings, bootstrap).answers()


def _steps() -> Any:
    from orchestrator.cli.render.broker_progress import Steps

    return Steps()


def _as_json(status: BrokerStatus) -> dict[str, object]:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(status).items()}
    return {name: shown(value) if isinstance(value, str) else value for name, value in values.items()}
