"""`kpipe dlq`: what is in the dead letter queues, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, EXIT_UNEXPECTED, UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.operations.dead_letters.grouping import Cause, Causes
    from orchestrator.operations.dead_letters.reader import Letterbox
    from orchestrator.operations.records.where import Where

#: Characters of a message that the table shows.
_MESSAGE = 100


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
    from orchestrator.operations.dead_letters.grouping import Causes
    from orchestrator.operations.dead_letters.reader import Letterbox, find_dlqs
    from orchestrator.operations.dead_letters.redrive import sent_before, was_sent

    where = where_of(expression)
    pipeline = app.load()
    causes = Causes()
    with app.reader(pipeline) as reader:
        box = Letterbox(reader, find_dlqs(pipeline, dlqs, reader))
        before = sent_before(pipeline, reader)
        for record, letter in box.read(where):
            causes.add(box.names[record.topic], record, letter, was_sent(letter, before))
    if app.json:
        groups = [cause.as_json() for cause in causes.newest_first()]
        output.json_line(
            {"letters": causes.letters, "groups": groups, "ungrouped": causes.others, "foreign": box.foreign}
        )
    else:
        _list(causes)
    notes(box, where)


@command.command("show")
@click.argument("letter", metavar="FINGERPRINT|ID")
@click.argument("dlqs", nargs=-1, metavar="[DLQ]...")
@click.pass_obj
def show(app: App, letter: str, dlqs: tuple[str, ...]) -> None:
    """Show one letter whole: why it is there, its headers, its value and the stack.

    Of the letters with one fingerprint, or one id, it is the newest.
    """
    from orchestrator.cli.render import dead_letter as form
    from orchestrator.operations.dead_letters.reader import Letterbox, find_dlqs

    pipeline = app.load()
    with app.reader(pipeline) as reader:
        box = Letterbox(reader, find_dlqs(pipeline, dlqs, reader))
        found = box.newest(letter)
    if found is None:
        raise UsageError(
            f"no letter has the fingerprint or id {letter}",
            "`kpipe dlq ls` lists fingerprints, each with a sample's id",
        )
    record, told = found
    if app.json:
        output.json_text(form.as_json(record, told, box.names[record.topic]))
        return
    for line in form.for_people(record, told, box.names[record.topic]):
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
    from orchestrator.operations.dead_letters import redrive as steps
    from orchestrator.operations.dead_letters.reader import Letterbox, find_dlqs
    from orchestrator.operations.dead_letters.routing import Chosen

    where = where_of(expression)
    pipeline = app.load()
    chosen = Chosen(frozenset(fingerprints), _handler(pipeline, handler), most, most_redrives)
    with app.reader(pipeline) as reader:
        box = Letterbox(reader, find_dlqs(pipeline, dlqs, reader))
        planned = steps.plan(pipeline, reader, box, where, chosen)
        going = bool(planned.letters) and not dry_run
        if not (app.json and going and yes):
            steps.show(planned, box, json=app.json)
        notes(box, where)
        if not going:
            return EXIT_OK
        if not (yes or steps.ask(planned.letters)):
            output.say("Nothing was sent back.")
            return EXIT_UNEXPECTED
        steps.carry_out(app, pipeline, reader, box, where, chosen, planned, rate)
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
    from orchestrator.operations.dead_letters import drop as steps

    pipeline = app.load()
    topic = steps.dlq_named(pipeline, dlq)
    if name not in (None, topic.name):
        raise UsageError(f"--yes-drop {name}: not the name of {topic.name}", "nothing was deleted")
    with app.reader(pipeline) as reader:
        loss = steps.loss(pipeline, topic, reader)
    admin = steps.admin_for(app, pipeline)
    if not (app.json and name):
        steps.show(loss, steps.waiting(admin, loss), json=app.json)
    if not loss.records:
        return EXIT_OK
    if name is None and not steps.ask(topic.name):
        output.say("Nothing was deleted.")
        return EXIT_UNEXPECTED
    steps.delete(admin, loss)
    if app.json:
        steps.show(loss, (), json=True, deleted=loss.records)
    else:
        output.say(f"Deleted {loss.records:,} records of {topic.name}.")
    return EXIT_OK


def _handler(pipeline: Pipeline, name: str | None) -> str | None:
    from orchestrator.text import did_you_mean

    known = [h.name for h in pipeline.handlers.values() if pipeline.redrive_topic(h) is not None]
    if name is not None and name not in known:
        hint = did_you_mean(name, known) or f"there are {', '.join(known) or 'none'}"
        raise UsageError(f"no letter can go back to `{name}`: it is no handler that consumes events", hint)
    return name


def where_of(expression: str | None) -> Where | None:
    if expression is None:
        return None
    from orchestrator.operations.records.where import Where

    return Where(expression)


def notes(box: Letterbox, where: Where | None) -> None:
    """What was not counted, and why."""
    if box.foreign:
        output.say(f"{box.foreign:,} of {box.seen:,} records are no letters of kpipe; `kpipe tail` shows them")
    if where is not None and where.failed:
        output.say(f"--where could not be asked about {where.failed:,} of them: {output.safe(where.why)}")


def _list(causes: Causes) -> None:
    if not causes.letters:
        output.data("No dead letters.")
        return
    output.table(
        ("DLQ", "FINGERPRINT", "COUNT", "REDRIVEN", "FIRST", "LAST", "HANDLER", "REASON", "MESSAGE"),
        [_row(cause) for cause in causes.newest_first()],
    )
    if cut := sum(cause.truncated for cause in causes.newest_first()):
        output.say(f"{cut:,} of them were too large for their DLQ and are cut; `kpipe dlq show` says to what")
    if causes.others:
        output.say(f"and {causes.others:,} letters of other causes; --where narrows them down")
    output.say("next: `kpipe dlq show FINGERPRINT` · `kpipe dlq redrive`")


def _row(cause: Cause) -> tuple[object, ...]:
    from orchestrator.cli.render.record import time_of

    sample, message = cause.sample, cause.message
    clipped = message if len(message) <= _MESSAGE else message[:_MESSAGE] + "…"
    first, last = (time_of(moment).partition(".")[0] for moment in (cause.first, cause.last))
    return (
        cause.dlq,
        sample.fingerprint,
        cause.count,
        cause.redriven,
        first,
        last,
        sample.handler,
        sample.reason,
        clipped,
    )
