"""`kpipe send`: one or many events, each held to its contract before any is sent, each acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import present
from orchestrator.cli.context import App
from orchestrator.errors import ContractError, UsageError

if TYPE_CHECKING:
    from orchestrator.cli.drafts import Draft
    from orchestrator.config.model import EventTemplate, Pipeline, Topic
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import Headers, Outgoing, Record


@dataclass(frozen=True, slots=True)
class _Common:
    """What every event of one call shares. `encode` turns its value and key into a record, or raises."""

    topic: Topic
    encode: Callable[[Any, bytes | None], Outgoing]
    key: bytes | None
    headers: Headers
    partition: int | None


@click.command("send")
@click.argument("event", metavar="EVENT")
@click.argument("body", required=False, metavar="[JSON|@FILE|-]")
@click.option("--set", "fields", multiple=True, metavar="FIELD=VALUE", help="Set one field, such as a.b=1.")
@click.option("-k", "key", metavar="KEY", help="The key, instead of the one in the event.")
@click.option("-H", "headers", multiple=True, metavar="NAME:VALUE", help="Add a header.")
@click.option("-p", "partition", type=click.IntRange(0), metavar="N", help="Send to this partition.")
@click.option("-n", "count", type=click.IntRange(1), default=1, metavar="N", help="Send N of them.")
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
    no_validate: bool,
) -> None:
    """Send an event and wait until Kafka has it.

    EVENT is a name under `events` in the pipeline file: its example is sent, with fresh generated fields and
    with JSON merged over it. A topic's name works too; then JSON is the whole event. `-` reads the standard
    input, @FILE a file: one JSON document, or one on each line.
    """
    from orchestrator.cli import formats
    from orchestrator.cli.drafts import drafts

    given_headers = formats.headers_of(headers)
    raw_key = None if key is None else key.encode("utf-8", "surrogateescape")
    pipeline = app.load()
    template = pipeline.events.get(event)
    topic = _topic(app, pipeline, event, template)
    encode = _encoder(pipeline, topic, validate=not no_validate)
    common = _Common(topic, encode, raw_key, given_headers, partition)
    planned = drafts(template, pipeline.base, body, fields, allow_raw=no_validate)
    # All of the first round are made, and so validated, before any is sent; further rounds differ from it in
    # generated fields only.
    first = [_first(common, draft, number, len(planned)) for number, draft in enumerate(planned, 1)]
    more = (_outgoing(common, draft) for _ in range(count - 1) for draft in planned)
    _deliver(app, pipeline, topic, partition, chain(first, more))


def _deliver(app: App, pipeline: Pipeline, topic: Topic, partition: int | None, outs: Iterable[Outgoing]) -> None:
    from orchestrator.cli.receipts import deliver
    from orchestrator.kafka.interrupt import uninterrupted
    from orchestrator.kafka.producer import Producer
    from orchestrator.kafka.properties import client_properties

    properties = client_properties(
        pipeline.kafka, "producer", app.bootstrap(pipeline), message_max_bytes=_largest(topic)
    )
    # The producer comes first: it fetches its id for idempotence (500 ms when it is asked to send at once)
    # while the reader looks at the topic.
    producer = Producer(properties)
    try:
        with app.reader(pipeline) as cluster:
            _check_place(cluster, topic, partition)
        deliver(producer, outs, _printer(app, topic))
    finally:
        with uninterrupted():
            producer.close(0)


def _topic(app: App, pipeline: Pipeline, name: str, template: EventTemplate | None) -> Topic:
    """The topic that `name` means. The cluster is asked only when the file does not know it."""
    from orchestrator.cli.targets import find_topic

    def on_cluster() -> Mapping[str, int]:
        with app.reader(pipeline) as cluster:
            return cluster.topics()

    return find_topic(pipeline, template.topic if template else name, on_cluster, others=pipeline.events)


def _encoder(pipeline: Pipeline, topic: Topic, *, validate: bool) -> Callable[[Any, bytes | None], Outgoing]:
    from orchestrator.contracts import Contract, load_contracts, outgoing

    if not validate:
        return lambda value, key: _as_it_is(topic, value, key)
    contracts = load_contracts(pipeline)
    contract = contracts.get(topic.name, Contract(topic.name))
    return lambda value, key: outgoing(topic, contract, value, key)


def _as_it_is(topic: Topic, value: Any, key: bytes | None) -> Outgoing:
    """The record for a value that need not keep any rule: without a usable key in it the key is null."""
    from orchestrator.cli.documents import Raw
    from orchestrator.contracts import Unencodable, encode_json
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
    out = common.encode(draft.value(), common.key)
    now = time.time_ns() // 1_000_000
    return out._replace(headers=common.headers, partition=common.partition, timestamp=now)


def _first(common: _Common, draft: Draft, number: int, of: int) -> Outgoing:
    """`_outgoing` while nothing is sent yet; an error says which of several events it is about."""
    try:
        return _outgoing(common, draft)
    except ContractError as broken:
        which = "the event" if of == 1 else f"event {number} of {of}"
        raise ContractError(
            f"{which} breaks the contract of {common.topic.name}",
            broken.violations,
            "nothing was sent; --no-validate sends it as it is",
        ) from None


def _check_place(cluster: Reader, topic: Topic, partition: int | None) -> None:
    """Refuse what would never be acknowledged: a topic or partition that is not there."""
    from orchestrator.cli.targets import check_partitions, not_created

    count = cluster.partitions(topic.kafka_name)
    if not count:
        raise not_created(topic)
    check_partitions(topic, count, [] if partition is None else [partition])


def _largest(topic: Topic) -> int | None:
    configured = topic.configs.get("max.message.bytes")
    return None if configured is None else int(configured)


def _printer(app: App, topic: Topic) -> Callable[[Record], None]:
    from orchestrator.cli import formats

    if app.json:
        return lambda record: present.json_text(formats.as_json(record, topic.name))
    return lambda record: present.data(formats.receipt(record, topic.name))
