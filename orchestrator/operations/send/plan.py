"""From what is to be sent to records: every event is made and held to its contract before any is sent."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import getrandbits
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ContractError, UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import EventTemplate, Topic
    from orchestrator.contracts import Contract
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.loading import Project
    from orchestrator.operations.send.drafts import Draft
    from orchestrator.operations.send.fake import FakeEvents
    from orchestrator.records import Headers, Outgoing, Record

#: How many events that break their contract are told with all that is wrong.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What is to be sent.

    `body` is JSON, `@FILE` or `-` (stdin), merged over the event's example; `fields` are `a.b=1`. `records`: the body
    is what `kpipe tail --json` prints. `fake`: the events are made up from the topic's schema, the same ones for the
    same `seed`. `count` rounds of them are sent, at most `rate` events a second. Without `validate` an event may break
    its contract.
    """

    body: str | None = None
    fields: tuple[str, ...] = ()
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    count: int = 1
    rate: float | None = None
    records: bool = False
    fake: bool = False
    seed: int | None = None
    validate: bool = True


@dataclass(frozen=True, slots=True)
class _Common:
    """What every event of one plan shares. `encode` turns its value and key into a record, or raises."""

    topic: Topic
    encode: Callable[[Any, bytes | None], Outgoing]
    options: SendOptions


@dataclass(frozen=True, slots=True)
class SendPlan:
    """Events that are known to be valid, `total` of them. `records` makes them, once more for each call.

    `lines` are where those of one round come from (0: not from a line).
    """

    topic: Topic
    options: SendOptions
    records: Callable[[], Iterator[Outgoing]]
    lines: Sequence[int]

    @property
    def total(self) -> int:
        return len(self.lines) * self.options.count

    def place(self, number: int) -> str:
        """How event `number` (from 0) is called in a message."""
        line = self.lines[number % len(self.lines)]
        return f"line {line}" if line else f"event {number + 1}"


def plan_send(project: Project, event: str, options: SendOptions) -> SendPlan:
    """A plan for the event or topic that is called `event`. Nothing is sent yet.

    All events are made, and so validated, before any is sent, and then made again: they may be too many to keep.
    Further rounds differ from the first in generated fields only. Raises UsageError, ContractError with every
    violation, FindingsError for a schema that is wrong.
    """
    from orchestrator.operations.send.drafts import drafts

    pipeline = project.pipeline
    template = pipeline.events.get(event)
    topic = _topic(project, event, template)
    common = _Common(topic, _encoder(project, topic, validate=options.validate), options)
    made = _made(project, topic, options.seed) if options.fake else None
    planned = drafts(
        template,
        pipeline.base,
        options.body,
        options.fields,
        allow_raw=not options.validate,
        records=options.records,
        made=made,
    )
    lines = _checked(common, planned)
    return SendPlan(
        topic, options, lambda: (_outgoing(common, draft) for _ in range(options.count) for draft in planned), lines
    )


def send(project: Project, plan: SendPlan, acknowledged: Callable[[Sequence[Record]], None]) -> None:
    """Send what is planned and wait until the broker has acknowledged all of it.

    `acknowledged` gets the records in the order of sending. Raises BrokerError, and KpipeError for what the broker
    refused.
    """
    from orchestrator.kafka.interrupt import uninterrupted
    from orchestrator.operations.send.deliver import deliver

    # Until it is written alone, a record is not known to be too large for its topic: others lie in its batch.
    smallest = plan.topic.record_limit
    # The producer comes first: it fetches its id for idempotence (500 ms when it is asked to send at once)
    # while the reader looks at the topic.
    producer = project.clients.isolating_producer(smallest)
    try:
        with project.reader(needs="WRITE") as cluster:
            _check_place(cluster, plan.topic, plan.options.partition)
        deliver(producer, plan.records(), acknowledged, place=plan.place, rate=plan.options.rate)
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


def _made(project: Project, topic: Topic, seed: int | None) -> FakeEvents:
    from orchestrator.contracts import Contract
    from orchestrator.operations.send.fake import FakeEvents

    contract = project.contracts.get(topic.name, Contract(topic.name))
    return FakeEvents(topic, contract, project.pipeline.base, seed)


def _encoder(project: Project, topic: Topic, *, validate: bool) -> Callable[[Any, bytes | None], Outgoing]:
    from orchestrator.contracts import Contract, outgoing
    from orchestrator.operations.send.input import Raw

    if not validate:
        return lambda value, key: _as_it_is(topic, value, key)
    contract = project.contracts.get(topic.name, Contract(topic.name))

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

    own, options = draft.recorded, common.options
    key = options.key if own is None or options.key is not None else own.key
    out = common.encode(draft.value(), key)
    if own is not None and not options.validate:
        out = out._replace(key=key)  # a null key too stays what it was
    # A record that is sent again is in the trace that it was in, or in none.
    headers = begun(options.headers, getrandbits(192)) if own is None else own.headers + options.headers
    return Outgoing(out.topic, out.key, out.value, headers, options.partition, time.time_ns() // 1_000_000)


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
