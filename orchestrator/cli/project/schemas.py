"""`kpipe schemas`: the contracts of the pipeline, whole, and beside their earlier versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, IncompatibleError, UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import EventTemplate, Pipeline, Topic
    from orchestrator.contracts import Contract
    from orchestrator.contracts.evolution.compatibility import Level
    from orchestrator.operations.loading import Project
    from orchestrator.operations.schemas.diff import Compared
    from orchestrator.operations.schemas.sample import Sample


@click.group("schemas")
def command() -> None:
    """Show the contracts of events, and check what a change of them breaks."""


@command.command("check")
@click.option(
    "--against",
    metavar="REV|FOLDER",
    help="What to compare with: a git revision, or a folder with the earlier files.  [default: HEAD]",
)
@click.option(
    "--require",
    "level",
    type=click.Choice(["full", "backward", "forward", "none"]),
    default="full",
    help="The compatibility that has to be kept.  [default: full]",
)
@click.option("--strict", is_flag=True, help="Take nothing for granted about members that one version does not name.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Also check the last N records of each topic on Kafka."
)
@click.pass_obj
def check(app: App, against: str | None, level: Level, strict: bool, sample: int | None) -> int:
    """Compare every schema with its earlier version, and say what a change breaks and whom it hits.

    Backward: events that exist keep the new contract. Forward: new events keep the earlier contract, which handlers
    elsewhere may still run with. Ends with 3 when the required compatibility is broken, or when a record of the sample
    that kept the earlier contract would fail.
    """
    from orchestrator.operations.schemas import diff
    from orchestrator.operations.schemas.versions import DEFAULT, version_of

    project = app.project()
    pipeline = project.pipeline
    _ = project.contracts  # a schema that is wrong ends it here
    version = version_of(against or DEFAULT, pipeline.base)
    compared = diff.compare_contracts(pipeline, app.files, version)
    samples = _samples(project, compared, sample) if sample else {}
    broken = [one.topic for one in compared if one.breaks(level, strict)]
    failing = [topic for topic, taken in samples.items() if taken.broken]
    if app.json:
        output.json_line(_as_json(version.name, level, strict, compared, samples, not (broken or failing)))
    else:
        _show(compared, samples, level, strict)
    if broken:
        count = f"{len(broken)} contract{'s break' if len(broken) > 1 else ' breaks'}"
        what = "the required compatibility" if level == "full" else f"{level} compatibility"
        raise IncompatibleError(
            f"{count} {what} with {version.name}: {', '.join(broken)}",
            "change them so that both versions can be read, send to a new topic, or ask for less with --require",
        )
    if failing:
        raise IncompatibleError(
            f"records on Kafka would fail the new contract: {', '.join(failing)}",
            "handlers that have not read them yet would dead-letter them",
        )
    return EXIT_OK


def _samples(project: Project, compared: list[Compared], count: int) -> dict[str, Sample]:
    from orchestrator.operations.schemas.sample import take_sample

    topics, contracts = project.pipeline.topics, project.contracts
    with project.reader() as reader:
        return {
            one.topic: take_sample(reader, topics[one.topic], contracts[one.topic], one.earlier, count)
            for one in compared
            if one.state != "removed"
        }


def _as_json(
    against: str, level: str, strict: bool, compared: list[Compared], samples: dict[str, Sample], compatible: bool
) -> dict[str, Any]:
    return {
        "against": against,
        "require": level,
        "strict": strict,
        "compatible": compatible,
        "contracts": [
            {**one.as_json(), "sample": samples[one.topic].as_json() if one.topic in samples else None}
            for one in compared
        ],
    }


def _show(compared: list[Compared], samples: dict[str, Sample], level: Level, strict: bool) -> None:
    from orchestrator.operations.schemas import diff
    from orchestrator.operations.schemas import sample as sampling

    for one in compared:
        for line in diff.lines(one, level, strict):
            output.data(output.safe(line))
        if one.topic in samples:
            for line in sampling.lines(samples[one.topic]):
                output.data(output.safe(line))
    if not compared:
        output.say("No topic has a schema: there is nothing to compare.")


@command.command("show")
@click.argument("event", metavar="EVENT")
@click.pass_obj
def show(app: App, event: str) -> None:
    """Show the contract of an event with everything it refers to, and an example.

    EVENT is the name of an event or of a topic. Where the file has no example, one is made up.
    """
    from orchestrator.contracts import load_contracts
    from orchestrator.contracts.resolve import resolved
    from orchestrator.contracts.sources import files_of
    from orchestrator.text import did_you_mean

    pipeline = app.load()
    contracts = load_contracts(pipeline)
    template = pipeline.events.get(event) or _template_of(pipeline, event)
    name = template.topic if template else event
    topic = pipeline.topics.get(name)
    if topic is None:
        hint = did_you_mean(event, [*pipeline.events, *pipeline.topics]) or "`kpipe topics ls` lists the topics"
        raise UsageError(f"the file has no event and no topic `{event}`", hint)
    schema = None if topic.schema is None else resolved(topic.schema, files_of(pipeline.base))
    example = None if template is None or template.example is None else _example(pipeline, template)
    made_up = example is None
    if made_up and schema is not None:
        example = _made_up(topic, contracts[name], pipeline)
    if app.json:
        shown = {"event": event, "topic": name, "key": topic.key, "schema": schema, "example": example}
        output.json_line({**shown, "made_up": made_up and example is not None})
    else:
        _print(schema, example, name, made_up=made_up)


def _template_of(pipeline: Pipeline, topic: str) -> EventTemplate | None:
    """The first event that is sent to `topic` and has an example."""
    return next((e for e in pipeline.events.values() if e.topic == topic and e.example is not None), None)


def _example(pipeline: Pipeline, template: EventTemplate) -> Any:
    import uuid
    from datetime import UTC, datetime

    from orchestrator.contracts.examples import build_example, load_example

    return build_example(
        load_example(template, pipeline.base),
        template.generate,
        new_id=lambda: str(uuid.uuid4()),
        now=lambda: datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def _made_up(topic: Topic, contract: Contract, pipeline: Pipeline) -> Any:
    """The same at every call; None for a schema that none can be made up from."""
    from orchestrator.errors import ContractError
    from orchestrator.operations.send.drafts import Draft
    from orchestrator.operations.send.fake import Made

    try:
        return Made(topic, contract, pipeline.base, seed=0).value(Draft(None, {}, (), ()), validate=True)
    except (ContractError, UsageError):
        return None


def _print(schema: Any, example: Any, topic: str, *, made_up: bool) -> None:
    import json

    if schema is None:
        output.say(f"{output.safe(topic)} has no schema: every JSON value is valid there.")
    else:
        output.data(output.safe(json.dumps(schema, indent=2, ensure_ascii=False), lines=True))
    if example is None:
        output.say("No event under `events` has an example for it, and none can be made up.")
    else:
        output.data("")
        output.data("Example, made up from the schema:" if made_up else "Example:")
        output.data(output.safe(json.dumps(example, indent=2, ensure_ascii=False), lines=True))
