"""What belongs to an event: records as a tree of causes and effects, and what became of each. No Kafka here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.config.model import Handler, Pipeline
from orchestrator.contracts import Undecodable, decode_json
from orchestrator.delivery.dedup import event_id_of
from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.delivery.headers.lineage import derived_trace, source_of, trace_of
from orchestrator.delivery.headers.redrive import read_redriven, time_of
from orchestrator.event import Letter
from orchestrator.records import Record, TopicPartition

#: Clocks of machines differ: an effect may look older than its cause by so much (milliseconds).
SKEW = 10_000


class RecordPlace(NamedTuple):
    """One record on the cluster."""

    topic: str
    partition: int
    offset: int

    @property
    def tp(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


@dataclass(eq=False)
class Node:
    """One record of a story. `letter` is what a letter tells, or what a redriven one still does.

    `via` is the consumer group that made it, or to which it was redriven; "" when none is known.
    """

    record: Record
    topic: str
    kind: str
    letter: Letter | None
    cause: RecordPlace | None
    via: str
    attempt: int
    event_id: str | None
    trace: str
    matched: bool = False
    parent: Node | None = field(default=None, repr=False)
    effects: list[Node] = field(default_factory=list, repr=False)

    @property
    def place(self) -> RecordPlace:
        return place_of(self.record)

    def since(self, other: Node | None) -> int | None:
        """Milliseconds after `other`; None where a time is not known."""
        if other is None or other.record.timestamp < 0 or self.record.timestamp < 0:
            return None
        return self.record.timestamp - other.record.timestamp

    def walk(self) -> Iterator[Node]:
        waiting = [self]
        while waiting:  # a chain may be longer than Python calls itself
            node = waiting.pop()
            yield node
            waiting += reversed(node.effects)


def place_of(record: Record) -> RecordPlace:
    return RecordPlace(record.topic, record.partition, record.offset)


class RecordReader:
    """What records mean in one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._names = {topic.kafka_name: topic.name for topic in pipeline.topics.values()}
        self._dlqs = {topic.kafka_name for topic in pipeline.topics.values() if topic.is_dlq}
        self._redriven = pipeline.redrive_topics()
        self._fields = tuple(
            dict.fromkeys(h.dedup.by for h in pipeline.handlers.values() if h.consumes and h.dedup) or {"eventId": None}
        )

    @property
    def topics(self) -> list[str]:
        """The cluster's names of all topics that a story may be in, those of redriven letters included."""
        return [*self._names, *self._redriven]

    def node(self, record: Record) -> Node:
        handler = self._redriven.get(record.topic)
        letter = read_letter(record.headers) if handler is None else read_redriven(record)
        kind = "redriven" if handler else "letter" if letter else "event"
        source = source_of(record.headers) if kind == "event" else None
        via = handler.group if handler else source.group if source else ""
        if kind == "letter" and letter is not None and letter.headers is not None:
            via = letter.headers.get("group", "")
        return Node(
            record, self._names.get(record.topic, record.topic), kind, letter, cause_of(record, kind, letter), via,
            letter.attempts if letter else source.attempt if source else 0,
            self.event_id(record, letter), trace_of(record.headers) or derived_trace(record),
        )  # fmt: skip

    def event_id(self, record: Record, letter: Letter | None) -> str | None:
        """What copies of the event share: its `dedup.by` field; None without one."""
        if letter is not None and letter.headers and letter.headers.get("event-id"):
            return letter.headers["event-id"]
        if record.value is None:
            return None
        try:
            value: Any = decode_json(record.value)
        except Undecodable:
            return None
        ids = (event_id_of(value, name) for name in self._fields)
        return next((str(found) for found in ids if found is not None), None)

    def consumers(self, pipeline: Pipeline, node: Node) -> list[Handler]:
        """The handlers that get this record."""
        if node.kind == "redriven":
            return [self._redriven[node.record.topic]]
        return list(pipeline.handlers_of(node.topic))


def cause_of(record: Record, kind: str, letter: Letter | None) -> RecordPlace | None:
    """The place of the event that this one came of, by its headers; for a redriven one that of the event itself."""
    if letter is not None:
        found = RecordPlace(letter.topic, letter.partition, letter.offset)
        return None if found == place_of(record) or found.offset < 0 else found
    source = source_of(record.headers) if kind == "event" else None
    return None if source is None else RecordPlace(source.place.topic, source.place.partition, source.offset)


def connect(nodes: Mapping[RecordPlace, Node]) -> list[Node]:
    """Put every node below its cause; those without one, oldest first."""
    letters = _letters(nodes.values())
    for node in nodes.values():
        node.effects.clear()
        node.parent = None
    for node in sorted(nodes.values(), key=_when):
        parent = _parent(node, nodes, letters)
        # Headers can be anybody's: a circle must not swallow the records in it.
        if parent is not None and node not in _above(parent):
            node.parent = parent
            parent.effects.append(node)
    return sorted((node for node in nodes.values() if node.parent is None), key=_when)


def _parent(node: Node, nodes: Mapping[RecordPlace, Node], letters: Mapping[RecordPlace, list[Node]]) -> Node | None:
    """A redriven record comes of its letter, and a letter of a redriven event of what was redriven to that handler."""
    if node.cause is None:
        return None
    if node.letter is not None:
        family = [other for other in letters.get(node.cause, []) if _when(other) <= _when(node)]
        times = node.letter.redrive_count
        if node.kind == "redriven":
            of = [n for n in family if n.letter and n.kind == "letter" and n.letter.id == node.letter.id]
            of = [n for n in of if n.letter and n.letter.redrive_count == times - 1] or of
        else:
            of = [n for n in family if n.letter and n.kind == "redriven" and n.via == node.via]
            of = [n for n in of if n.letter and n.letter.redrive_count == times]
        if of:
            return max(of, key=_when)
    cause = nodes.get(node.cause)
    return cause if cause is not None and _may_cause(cause, node) else None


def _may_cause(cause: Node, effect: Node) -> bool:
    """Whether `effect` can be of the record that stands at its cause's place now.

    In a topic that was deleted and made anew another record may stand there. A letter names its event's time. Anything
    else is of it if both share a trace, or if it is not older, by more than clocks differ.
    """
    if effect.letter is not None:
        timestamp = time_of(effect.letter)
        return timestamp < 0 or timestamp == cause.record.timestamp
    since = effect.since(cause)
    return effect.trace == cause.trace or since is None or since > -SKEW


def _letters(nodes: Iterable[Node]) -> dict[RecordPlace, list[Node]]:
    """Letters and redriven records, by the place that their event had at first."""
    found: dict[RecordPlace, list[Node]] = {}
    for node in nodes:
        if node.letter is not None and node.cause is not None:
            found.setdefault(node.cause, []).append(node)
    return found


def _above(node: Node) -> Iterator[Node]:
    above: Node | None = node
    while above is not None:
        yield above
        above = above.parent


def _when(node: Node) -> tuple[int, str, int, int]:
    return (node.record.timestamp, *node.place)


@dataclass(frozen=True, slots=True)
class HandlerOutcome:
    """What one handler made of one record; `effects` are what it wrote because of it.

    `outcome` is `done` (settled, and no letter), `dead-lettered`, `skipped` or `pending`.
    """

    handler: str
    outcome: str
    attempts: int | None
    reason: str
    effects: tuple[Node, ...]


def outcome_of(handler: Handler, node: Node, settled: bool, earlier: Iterable[Node]) -> HandlerOutcome:
    """`settled`: its group has committed past the record. `earlier` are the other records of the story."""
    own = tuple(effect for effect in node.effects if effect.via == handler.group and effect.kind != "redriven")
    letters = [effect for effect in own if effect.kind == "letter"]
    if letters:
        letter = letters[-1].letter
        assert letter is not None
        return HandlerOutcome(handler.name, "dead-lettered", letter.attempts or None, letter.reason, own)
    attempts = max((effect.attempt for effect in own), default=None)
    if not settled:
        return HandlerOutcome(handler.name, "pending", attempts, "", own)
    if attempts is None:
        broken = next((e.letter for e in node.effects if e.letter and e.letter.reason in ("decode", "schema")), None)
        if broken is not None:
            return HandlerOutcome(handler.name, "skipped", None, "breaks the contract", own)
        copied = _copied(handler, node, earlier)
        if copied is not None:
            return HandlerOutcome(handler.name, "skipped", None, f"a copy of offset {copied.record.offset}", own)
    return HandlerOutcome(handler.name, "done", attempts, "", own)


def _copied(handler: Handler, node: Node, earlier: Iterable[Node]) -> Node | None:
    """The record of which this one is a copy that the handler does not run."""
    if handler.dedup is None or node.event_id is None or node.kind != "event":
        return None
    window = handler.dedup.window * 1000
    copies = (
        other
        for other in earlier
        if other.place.tp == node.place.tp
        and other.record.offset < node.record.offset
        and other.event_id == node.event_id
        and abs(node.record.timestamp - other.record.timestamp) <= window
    )
    return min(copies, key=lambda other: other.record.offset, default=None)
