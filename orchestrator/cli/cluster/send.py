"""`kpipe send`: one or many events, each held to its contract before any is sent, each acknowledged."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import getrandbits
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import ContractError, UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import EventTemplate, Pipeline, Topic
    from orchestrator.contracts import Contract
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.loading import Project
    from orchestrator.operations.send.drafts import Draft
    from orchestrator.operations.send.fake import Made
    from orchestrator.records import Headers, Outgoing, Record

#: How many events that break their contract are told with all that is wrong.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class _Common:
    """What every event of one call shares. `encode` turns its value and key into a record, or raises."""

    topic: Topic
    encode: Callable[[Any, bytes | None], Outgoing]
    validate: bool
    key: bytes | None
    headers: Headers
    partition: int | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """The events to send, in order; `lines` are where those of one round come from (0: not from a line)."""

    outs: Iterable[Outgoing]
    total: int
    lines: Sequence[int]
    rate: float | None

    def place(self, number: int) -> str:
        line = self.lines[number % len(self.lines)]
        return f"line {line}" if line else f"event {number + 1}"


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
    from orchestrator.operations.send.drafts import drafts

    if seed is not None and not fake:
        raise UsageError("--seed says which events --fake makes up", "give --fake, too")
    if records and fake:
        raise UsageError("--records and --fake both say what the events are", "give one of them")
    given_headers = _given(formats.headers_of(headers))
    raw_key = None if key is None else key.encode("utf-8", "surrogateescape")
    project = app.project()
    pipeline = project.pipeline
    template = pipeline.events.get(event)
    topic = _topic(project, event, template)
    encode = _encoder(pipeline, topic, validate=not no_validate)
    common = _Common(topic, encode, not no_validate, raw_key, given_headers, partition)
    made = _made(pipeline, topic, seed) if fake else None
    planned = drafts(template, pipeline.base, body, fields, allow_raw=no_validate, records=records, made=made)
    # All are made, and so validated, before any is sent, and then made again: they may be too many to keep. Further
    # rounds differ from the first in generated fields only.
    lines = _checked(common, planned)
    outs = (_outgoing(common, draft) for _ in range(count) for draft in planned)
    _deliver(app, project, common, _Batch(outs, len(lines) * count, lines, rate))


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


def _made(pipeline: Pipeline, topic: Topic, seed: int | None) -> Made:
    from orchestrator.contracts import Contract, load_contracts
    from orchestrator.operations.send.fake import Made

    contract = load_contracts(pipeline).get(topic.name, Contract(topic.name))
    return Made(topic, contract, pipeline.base, seed)


def _deliver(app: App, project: Project, common: _Common, batch: _Batch) -> None:
    from orchestrator.cli.render.send_progress import Shown
    from orchestrator.config.topics import record_limit
    from orchestrator.kafka.interrupt import uninterrupted
    from orchestrator.kafka.isolating_producer import IsolatingProducer
    from orchestrator.kafka.properties import client_properties, denser
    from orchestrator.operations.send.deliver import deliver

    # Until it is written alone, a record is not known to be too large for its topic: others lie in its batch.
    smallest = record_limit(common.topic)
    properties = client_properties(project.pipeline.kafka, "producer", project.bootstrap, smallest=smallest)
    # The producer comes first: it fetches its id for idempotence (500 ms when it is asked to send at once)
    # while the reader looks at the topic.
    producer = IsolatingProducer(properties, denser(project.pipeline.kafka))
    shown = Shown(_printer(app, common.topic), batch.total)
    try:
        with project.reader(needs="WRITE") as cluster:
            _check_place(cluster, common.topic, common.partition)
        deliver(producer, batch.outs, shown, place=batch.place, rate=batch.rate)
        shown.finish()
    except KeyboardInterrupt:
        shown.interrupted()
        raise
    finally:
        with uninterrupted():
            producer.close(0)


def _topic(project: Project, name: str, template: EventTemplate | None) -> Topic:
    """The topic that `name` means. The cluster is asked only when the file does not know it."""
    from orchestrator.operations.topic_names import find_topic

    def on_cluster() -> Mapping[str, int]:
        with project.reader() as cluster:
            return cluster.topics()

    return find_topic(
        project.pipeline, template.topic if template else name, on_cluster, others=project.pipeline.events
    )


def _encoder(pipeline: Pipeline, topic: Topic, *, validate: bool) -> Callable[[Any, bytes | None], Outgoing]:
    from orchestrator.contracts import Contract, load_contracts, outgoing
    from orchestrator.operations.send.input import Raw

    if not validate:
        return lambda value, key: _as_it_is(topic, value, key)
    contracts = load_contracts(pipeline)
    contract = contracts.get(topic.name, Contract(topic.name))

    def encode(value: Any, key: bytes | None) -> Outgoing:
        if isinstance(value, Raw):
            return _bytes(topic, contract, value.value, key)
        return outgoing(topic, contract, value, key)

    return encode


def _bytes(topic: Topic, contract: Contract, raw: bytes, key: bytes | None) -> Outgoing:
    """The record for bytes that have to be a JSON document which keeps the contract; `null` is no tombstone here."""
    from orchestrator.contracts import Undecodable, outgoing
    from orchestrator.operations.records import exact_json
    from orchestrator.records import Outgoing

    try:
        value = exact_json.parse(raw)
    except Undecodable as error:
        raise ContractError("not JSON", [("$", f"is not JSON: {error.reason}")]) from None
    if value is not None:
        return outgoing(topic, contract, value, key)
    broken = [(violation.path, violation.message) for violation in contract.violations(None)]
    if broken or (key is None and topic.key):
        raise ContractError("null", broken or [("$", "the document null has no key in it")])
    return Outgoing(topic.kafka_name, key, raw)


def _as_it_is(topic: Topic, value: Any, key: bytes | None) -> Outgoing:
    """The record for a value that need not keep any rule: without a usable key in it the key is null."""
    from orchestrator.contracts import Unencodable, encode_json
    from orchestrator.operations.send.input import Raw
    from orchestrator.records import Outgoing

    if isinstance(value, Raw):
        return Outgoing(topic.kafka_name, key, value.value)
    try:
        raw = None if value is None else encode_json(value)
    except Unencodable as error:
        raise UsageError(f"the event cannot be written as JSON: {error.reason}") from None
    own = value.get(topic.key) if isinstance(value, dict) and topic.key else None
    if key is None and isinstance(own, str | int) and not isinstance(own, bool):
        key = str(own).encode()
    return Outgoing(topic.kafka_name, key, raw)


def _outgoing(common: _Common, draft: Draft) -> Outgoing:
    """One record, valid or sent as it is. Raises ContractError with every violation."""
    from orchestrator.delivery.headers.lineage import begun
    from orchestrator.records import Outgoing

    own = draft.recorded
    key = common.key if own is None or common.key is not None else own.key
    out = common.encode(draft.value(), key)
    if own is not None and not common.validate:
        out = out._replace(key=key)  # a null key too stays what it was
    # A record that is sent again is in the trace that it was in, or in none.
    headers = begun(common.headers, getrandbits(192)) if own is None else own.headers + common.headers
    return Outgoing(out.topic, out.key, out.value, headers, common.partition, time.time_ns() // 1_000_000)


def _checked(common: _Common, planned: Iterable[Draft]) -> Sequence[int]:
    """The line of each draft, once all of them are known to be valid. Raises ContractError with every violation."""
    lines = array("L")
    broken: list[tuple[str, Sequence[tuple[str, str]]]] = []
    for number, draft in enumerate(planned, 1):
        lines.append(draft.line)
        try:
            _outgoing(common, draft)
        except ContractError as error:
            broken.append((f"line {draft.line or number}", error.violations if len(broken) < _NAMED else ()))
    if broken:
        raise _breaks(common.topic, broken, len(lines))
    return lines


def _breaks(topic: Topic, broken: Sequence[tuple[str, Sequence[tuple[str, str]]]], of: int) -> ContractError:
    which = "the event breaks" if of == 1 else f"{len(broken)} of {of} events break"
    listed = [(path if of == 1 else f"{place}: {path}", message) for place, wrong in broken for path, message in wrong]
    if len(broken) > _NAMED:
        listed.append(("…", f"and {len(broken) - _NAMED} more events"))
    hint = "nothing was sent; --no-validate sends it as it is"
    return ContractError(f"{which} the contract of {topic.name}", listed, hint)


def _check_place(cluster: Reader, topic: Topic, partition: int | None) -> None:
    """Refuse what would never be acknowledged: a topic or partition that is not there."""
    from orchestrator.operations.topic_names import check_partitions, not_created

    count = cluster.partitions(topic.kafka_name)
    if not count:
        raise not_created(topic)
    check_partitions(topic, count, [] if partition is None else [partition])


def _printer(app: App, topic: Topic) -> Callable[[Sequence[Record]], None]:
    from orchestrator.cli.render import record as formats

    if app.json:
        return lambda records: output.json_text(*[formats.as_json(record, topic.name) for record in records])
    return lambda records: output.data(*[formats.receipt(record, topic.name) for record in records])
