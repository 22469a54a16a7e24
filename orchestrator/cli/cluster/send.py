"""`kpipe send`: one or many events, each held to its contract before any is sent, each acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import Topic
    from orchestrator.records import Headers, Record


@click.command("send")
@click.argument("event", metavar="EVENT")
@click.argument("body", required=False, metavar="[JSON|@FILE|-]")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Set one field, such as a.b=1.")
@click.option("-k", "key", metavar="KEY", help="The key, instead of the one in the event.")
@click.option("-H", "headers", multiple=True, metavar="NAME:VALUE", help="Add a header.")
@click.option("-p", "partition", type=click.IntRange(0), metavar="N", help="Send to this partition.")
@click.option("-n", "count", type=click.IntRange(1), default=1, metavar="N", help="Send N of them.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Send N of them a second.")
@click.option("--records", is_flag=True, help="The input is what `kpipe tail --json` prints: send those again.")
@click.option("--fake", is_flag=True, help="Make the event up from the topic's schema.")
@click.option("--seed", type=int, metavar="N", help="With --fake: the same events for the same number.")
@click.option("--no-validate", is_flag=True, help="Send it even if it breaks the contract.")
@click.pass_obj
def command(
    app: App,
    event: str,
    body: str | None,
    fields: tuple[str, ...],
    key: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    count: int,
    rate: float | None,
    records: bool,
    fake: bool,
    seed: int | None,
    no_validate: bool,
) -> None:
    """Send an event and wait until Kafka has it.

    EVENT is a name under `events` in the pipeline file: its example is sent, with fresh generated fields and
    with JSON merged over it. A topic's name works too; then JSON is the whole event. `-` reads the standard
    input, @FILE a file: one JSON document, or one on each line.

    With --fake every event is made up from the topic's schema, and JSON is merged over it.
    """
    from orchestrator.cli.render import record as formats
    from orchestrator.cli.render.send_progress import Shown
    from orchestrator.operations.send.plan import SendOptions, plan_send, send

    if seed is not None and not fake:
        raise UsageError("--seed says which events --fake makes up", "give --fake, too")
    if records and fake:
        raise UsageError("--records and --fake both say what the events are", "give one of them")
    given_headers = _given(formats.headers_of(headers))
    raw_key = None if key is None else key.encode("utf-8", "surrogateescape")
    options = SendOptions(
        body, fields, raw_key, given_headers, partition, count, rate, records, fake, seed, validate=not no_validate
    )
    project = app.project()
    plan = plan_send(project, event, options)
    shown = Shown(_printer(app, plan.topic), plan.total)
    try:
        send(project, plan, shown)
    except KeyboardInterrupt:
        shown.interrupted()
        raise
    shown.finish()


def _given(headers: Headers) -> Headers:
    """Those of `-H`, if an event can have them. Raises UsageError."""
    from orchestrator.contracts.headers import RESERVED, WrongHeader, check_name

    for name, _ in headers:
        try:
            check_name(name)
        except WrongHeader as wrong:
            raise UsageError(f"-H: {wrong}") from None
        if name.startswith(RESERVED):
            raise UsageError(f"-H {name}: names that begin with `{RESERVED}` are kpipe's own", "docs/headers.md")
    return headers


def _printer(app: App, topic: Topic) -> Callable[[Sequence[Record]], None]:
    from orchestrator.cli.render import record as formats

    if app.json:
        return lambda records: output.json_text(*[formats.as_json(record, topic.name) for record in records])
    return lambda records: output.data(*[formats.receipt(record, topic.name) for record in records])
