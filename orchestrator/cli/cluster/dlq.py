"""`kpipe dlq`: what is in the dead letter queues, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, EXIT_UNEXPECTED, UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.operations.dead_letters.listing import CauseList
    from orchestrator.operations.dead_letters.redrive import Redriven
    from orchestrator.operations.records.where import Where


@click.group("dlq")
def command() -> None:
    """Look into the dead letter queues, send letters back, and delete them."""


@command.command("ls")
@click.argument("dlqs", nargs=-1, metavar="[DLQ]...")
@click.option("--where", "expression", metavar="EXPR", help="Only letters of which this JMESPath expression is true.")
@click.pass_obj
def ls(app: App, dlqs: tuple[str, ...], expression: str | None) -> None:
    """List dead letters by their cause: how many, since when, and what went wrong.

    DLQ is a name from the pipeline file, or of any topic on the cluster; without one all of the file's are read.
    Letters of one cause share a fingerprint.
    """
    from orchestrator.cli.render import dead_letter as form
    from orchestrator.cli.render.scan_progress import LetterProgress
    from orchestrator.operations.dead_letters.listing import list_causes

    where = where_of(expression)
    listing = list_causes(app.project(), dlqs, where, LetterProgress())
    output.in_place("")
    if app.json:
        output.json_line(form.causes_json(listing))
    else:
        form.show_causes(listing)
    notes(listing, where)


@command.command("show")
@click.argument("letter", metavar="FINGERPRINT|ID")
@click.argument("dlqs", nargs=-1, metavar="[DLQ]...")
@click.pass_obj
def show(app: App, letter: str, dlqs: tuple[str, ...]) -> None:
    """Show one letter whole: why it is there, its headers, its value and the stack.

    Of the letters with one fingerprint, or one id, it is the newest.
    """
    from orchestrator.cli.render import dead_letter as form
    from orchestrator.operations.dead_letters.listing import find_letter

    found = find_letter(app.project(), letter, dlqs)
    if found is None:
        raise UsageError(
            f"no letter has the fingerprint or id {letter}",
            "`kpipe dlq ls` lists fingerprints, each with a sample's id",
        )
    if app.json:
        output.json_text(form.as_json(found.record, found.letter, found.dlq))
        return
    for line in form.for_people(found.record, found.letter, found.dlq):
        output.data(line)


@command.command("redrive")
@click.argument("dlqs", nargs=-1, metavar="[DLQ]...")
@click.option("--fingerprint", "fingerprints", multiple=True, metavar="F", help="Only letters of this cause.")
@click.option("--where", "expression", metavar="EXPR", help="Only letters of which this JMESPath expression is true.")
@click.option("--handler", metavar="HANDLER", help="Only to this handler.")
@click.option("--max", "most", type=click.IntRange(1), metavar="N", help="At most N letters.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="N letters a second.")
@click.option(
    "--max-redrives",
    "most_redrives",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="Leave letters alone that were sent back N times.",
)
@click.option("--dry-run", is_flag=True, help="Show what would go back where, and end.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def redrive(
    app: App,
    dlqs: tuple[str, ...],
    fingerprints: tuple[str, ...],
    expression: str | None,
    handler: str | None,
    most: int | None,
    rate: float | None,
    most_redrives: int,
    dry_run: bool,
    yes: bool,
) -> int:
    """Send letters back to the handlers that gave them up, and to nobody else.

    Shows the plan, asks, and sends. A letter goes back once: started again after whatever ended it, it goes on.
    """
    from orchestrator.cli.render import dead_letter as form
    from orchestrator.operations.dead_letters.redrive import counted, redriving
    from orchestrator.operations.dead_letters.routing import Chosen

    where = where_of(expression)
    project = app.project()
    chosen = Chosen(frozenset(fingerprints), _handler(project.pipeline, handler), most, most_redrives)
    with redriving(project, dlqs, chosen, where, form.RedriveProgress()) as going_back:
        plan = going_back.plan()
        output.in_place("")
        going = bool(plan.letters) and not dry_run
        if not app.json:
            form.show_redrive(plan)
        elif not (going and yes):
            output.json_line(form.redrive_json(plan))
        notes(plan, where)
        if not going:
            return EXIT_OK
        if not (yes or form.ask_redrive(plan.letters)):
            output.say("Nothing was sent back.")
            return EXIT_UNEXPECTED
        try:
            result = going_back.run(plan, rate)
        except KeyboardInterrupt:
            if going_back.sent is not None:
                output.say(f"Sent back {counted(going_back.sent)}; the same command goes on where this one ended.")
            raise
    output.in_place("")
    if app.json:
        output.json_line(form.redrive_json(result))
    else:
        form.show_redriven(result)
    return EXIT_OK


@command.command("drop")
@click.argument("dlq", metavar="DLQ")
@click.option("--yes-drop", "name", metavar="NAME", help="Do not ask: NAME is the DLQ's name once more.")
@click.pass_obj
def drop(app: App, dlq: str, name: str | None) -> int:
    """Delete all letters of one DLQ.

    Shows what would be lost and asks for the DLQ's name. Letters that are written meanwhile stay. Kafka can delete the
    oldest records of a partition only, so single letters cannot be dropped.
    """
    from orchestrator.cli.render import dead_letter as form
    from orchestrator.cli.render.scan_progress import LetterProgress
    from orchestrator.operations.dead_letters import drop as dropping

    project = app.project()
    topic = dropping.dlq_named(project.pipeline, dlq)
    if name not in (None, topic.name):
        raise UsageError(f"--yes-drop {name}: not the name of {topic.name}", "nothing was deleted")
    loss = dropping.loss_of(project, topic, LetterProgress())
    output.in_place("")
    admin = project.admin()
    if not app.json:
        form.show_loss(loss, dropping.unread_by(admin, loss))
    elif not name:
        output.json_line(form.loss_json(loss, None))
    if not loss.records:
        return EXIT_OK
    if name is None and not form.ask_drop(topic.name):
        output.say("Nothing was deleted.")
        return EXIT_UNEXPECTED
    dropping.delete(admin, loss)
    if app.json:
        output.json_line(form.loss_json(loss, loss.records))
    else:
        output.say(f"Deleted {loss.records:,} records of {topic.name}.")
    return EXIT_OK


def _handler(pipeline: Pipeline, name: str | None) -> str | None:
    from orchestrator.text import did_you_mean

    known = [handler.name for handler in pipeline.redrive_topics().values()]
    if name is not None and name not in known:
        hint = did_you_mean(name, known) or f"there are {', '.join(known) or 'none'}"
        raise UsageError(f"no letter can go back to `{name}`: it is no handler that consumes events", hint)
    return name


def where_of(expression: str | None) -> Where | None:
    if expression is None:
        return None
    from orchestrator.operations.records.where import Where

    return Where(expression)


def notes(read: CauseList | Redriven, where: Where | None) -> None:
    """What was not counted, and why."""
    from orchestrator.cli.render.scan_progress import unasked

    if read.foreign:
        output.say(f"{read.foreign:,} of {read.records:,} records are no letters of kpipe; `kpipe tail` shows them")
    unasked(where)
