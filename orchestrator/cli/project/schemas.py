"""`kpipe schemas`: the contracts of the pipeline, whole, and beside their earlier versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK

if TYPE_CHECKING:
    from orchestrator.contracts.evolution.compatibility import Level
    from orchestrator.operations.schemas.check import ContractCheck
    from orchestrator.operations.schemas.example import ContractView


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
    from orchestrator.operations.schemas.check import check_contracts

    checked = check_contracts(app.project(), against, level, strict=strict, sample=sample)
    if app.json:
        output.json_line(_as_json(checked))
    else:
        _show(checked)
    checked.raise_if_incompatible()
    return EXIT_OK


def _as_json(checked: ContractCheck) -> dict[str, Any]:
    samples = checked.samples
    return {
        "against": checked.version,
        "require": checked.level,
        "strict": checked.strict,
        "compatible": not (checked.broken or checked.failing),
        "contracts": [
            {**one.as_json(), "sample": samples[one.topic].as_json() if one.topic in samples else None}
            for one in checked.contracts
        ],
    }


def _show(checked: ContractCheck) -> None:
    from orchestrator.operations.schemas import diff
    from orchestrator.operations.schemas import sample as sampling

    for one in checked.contracts:
        for line in diff.lines(one, checked.level, checked.strict):
            output.data(output.safe(line))
        if one.topic in checked.samples:
            for line in sampling.lines(checked.samples[one.topic]):
                output.data(output.safe(line))
    if not checked.contracts:
        output.say("No topic has a schema: there is nothing to compare.")


@command.command("show")
@click.argument("event", metavar="EVENT")
@click.pass_obj
def show(app: App, event: str) -> None:
    """Show the contract of an event with everything it refers to, and an example.

    EVENT is the name of an event or of a topic. Where the file has no example, one is made up.
    """
    from orchestrator.operations.schemas.example import contract_of

    view = contract_of(app.project(), event)
    if app.json:
        output.json_line(
            {
                "event": event,
                "topic": view.topic.name,
                "key": view.topic.key,
                "schema": view.schema,
                "example": view.example,
                "made_up": view.made_up,
            }
        )
    else:
        _print(view)


def _print(view: ContractView) -> None:
    import json

    if view.schema is None:
        output.say(f"{output.safe(view.topic.name)} has no schema: every JSON value is valid there.")
    else:
        output.data(output.safe(json.dumps(view.schema, indent=2, ensure_ascii=False), lines=True))
    if view.example is None:
        output.say("No event under `events` has an example for it, and none can be made up.")
    else:
        output.data("")
        output.data("Example, made up from the schema:" if view.made_up else "Example:")
        output.data(output.safe(json.dumps(view.example, indent=2, ensure_ascii=False), lines=True))
