"""Finding an event and everything that belongs to it: bounded reads of all topics of a pipeline, partitions at once.

A story is found in passes over the window: one for the event that was asked for, then for what shares its trace or
names one of its records as the cause, until nothing new turns up. Causes are read directly at the place that headers
name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.delivery.headers.lineage import TRACEPARENT, trace_of
from orchestrator.operations.trace.causality import SKEW, Node, RecordPlace, RecordReader, connect, place_of
from orchestrator.records import Record, TopicPartition

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.kafka.reader import Reader

Offsets = Mapping[TopicPartition, int]

#: No story is longer: a trace that goes on for ever must not fill the memory.
MOST = 2_000
#: More passes find nothing but what each has found: handlers that begin new traces one after the other.
_PASSES = 8
_PLACE = re.compile(r"(?:(?P<group>.+)/)?(?P<topic>[^/]+)/(?P<partition>[0-9]{1,9})/(?P<offset>[0-9]{1,18})", re.ASCII)


@dataclass
class SearchWindow:
    """The part of the topics that is looked at."""

    starts: dict[TopicPartition, int]
    begins: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]

    @property
    def topics(self) -> int:
        return len({tp.topic for tp in self.ends})


def window(reader: Reader, topics: Iterable[str], since: float) -> SearchWindow:
    """All partitions of those topics that exist; from `since` seconds ago on."""
    partitions = [TopicPartition(t, n) for t, count in reader.there(topics).items() for n in range(count)]
    begins, ends = reader.beginnings(partitions), reader.ends(partitions)
    starts = begins if since == float("inf") else reader.at_time(partitions, int((time.time() - since) * 1000))
    return SearchWindow({tp: min(starts[tp], ends[tp]) for tp in partitions}, begins, ends)


@dataclass
class Scout:
    """`read` is a reader's, which may count and show its progress."""

    read: Callable[[Offsets, Offsets], Iterator[list[Record]]]
    at_time: Callable[[Iterable[TopicPartition], int], Offsets]
    reading: RecordReader
    window: SearchWindow
    nodes: dict[RecordPlace, Node] = field(default_factory=dict)
    #: There is more than `MOST`.
    cut: bool = False

    def matching(self, wanted: Callable[[Record], bool], most: int) -> tuple[list[Record], int]:
        """The newest `most` records of the window that are `wanted`, oldest first, and how many there are."""
        kept: list[Record] = []
        count = 0
        for batch in self.read(self.window.starts, self.window.ends):
            for record in batch:
                if wanted(record):
                    count += 1
                    kept.append(record)
            if len(kept) > 4 * most:
                kept = _newest(kept, most)
        return _newest(kept, most), count

    def at(self, places: Iterable[RecordPlace]) -> Iterator[Record]:
        """The records at those places that still exist."""
        waiting = {
            p for p in places if self.window.begins.get(p.tp, 1 << 62) <= p.offset < self.window.ends.get(p.tp, 0)
        }
        while waiting:
            round_ = {place.tp: place for place in waiting}
            waiting.difference_update(round_.values())
            starts = {tp: place.offset for tp, place in round_.items()}
            for batch in self.read(starts, {tp: offset + 1 for tp, offset in starts.items()}):
                yield from (record for record in batch if place_of(record) in round_.values())

    def follow(self, found: Iterable[Record]) -> list[Node]:
        """Everything that belongs to the records `found`: the events that nothing caused, with all below them."""
        for record in found:
            self._keep(record).matched = True
        self._climb()
        for _ in range(_PASSES):
            before, traces = set(self.nodes), {node.trace for node in self.nodes.values()}
            self._descend(traces)
            self._climb()
            if all(node.trace in traces for place, node in self.nodes.items() if place not in before):
                break
        return connect(self.nodes)

    def _keep(self, record: Record) -> Node:
        place = place_of(record)
        if place not in self.nodes:
            self.nodes[place] = self.reading.node(record)
        return self.nodes[place]

    def _climb(self) -> None:
        """Read the causes of all that is known, and theirs."""
        tried: set[RecordPlace] = set()
        while missing := {n.cause for n in self.nodes.values() if n.cause} - set(self.nodes) - tried:
            tried |= missing
            for record in self.at(missing):
                self._keep(record)

    def _descend(self, traces: set[str]) -> None:
        """One pass for what the known records caused: what says so, and what shares a trace and leads to them."""
        marks = {trace.encode() for trace in traces}
        family = self._family()
        candidates: dict[RecordPlace, Node] = {}
        for batch in self.read(self._later(), self.window.ends):
            for record in batch:
                if not record.headers or place_of(record) in self.nodes or not self._may_belong(record, marks, family):
                    continue
                if len(self.nodes) + len(candidates) >= MOST:
                    self.cut = True
                    break
                candidates[place_of(record)] = self.reading.node(record)
        while joined := {p: n for p, n in candidates.items() if p not in self.nodes and n.cause in self._family()}:
            self.nodes.update(joined)

    def _family(self) -> set[RecordPlace | None]:
        """The places that a cause of what belongs to the story may have, one that retention removed included."""
        return {*self.nodes, *(node.cause for node in self.nodes.values() if node.cause)}

    def _may_belong(self, record: Record, marks: set[bytes], family: set[RecordPlace | None]) -> bool:
        for name, value in record.headers:
            if name == TRACEPARENT and value is not None and value[3:35] in marks:
                return True
        return _tells(record) and self.reading.node(record).cause in family

    def _later(self) -> dict[TopicPartition, int]:
        """Where to begin: nothing is caused before its cause. The window's start does not matter here."""
        times = [node.record.timestamp for node in self.nodes.values() if node.record.timestamp >= 0]
        if not times:
            return self.window.starts
        starts = self.at_time(list(self.window.ends), min(times) - SKEW)
        return {tp: min(starts[tp], end) for tp, end in self.window.ends.items()}


def _tells(record: Record) -> bool:
    """Whether its headers name a cause."""
    return any(name in ("kpipe-source", "kpipe-dlq-id", "kpipe-redrive-id") for name, _ in record.headers)


def _newest(records: list[Record], most: int) -> list[Record]:
    return sorted(records, key=lambda r: (r.timestamp, r.topic, r.partition, r.offset))[-most:]


def find(scout: Scout, pipeline: Pipeline, event: str, most: int) -> tuple[list[Record], int]:
    """The newest `most` records that `event` means, oldest first, and how many there are.

    `event` is a place (`TOPIC/PARTITION/OFFSET`, also with a group before it), else a key, an event id or a trace id.
    """
    place = _place(pipeline, event, scout.window.ends)
    if place is not None:
        records = list(scout.at([place]))
        if records:
            return records, len(records)
    return scout.matching(_matcher(scout.reading, event), most)


def _place(pipeline: Pipeline, event: str, partitions: Mapping[TopicPartition, int]) -> RecordPlace | None:
    """`orders.created/1/42`, also with a group before it; None for what names no partition that there is."""
    parts = _PLACE.fullmatch(event)
    if parts is None:
        return None
    topic = pipeline.topics[parts["topic"]].kafka_name if parts["topic"] in pipeline.topics else parts["topic"]
    place = RecordPlace(topic, int(parts["partition"]), int(parts["offset"]))
    return place if place.tp in partitions else None


def _matcher(reading: RecordReader, event: str) -> Callable[[Record], bool]:
    """Whether a record's key, event id or trace id is `event`."""
    raw = event.encode("utf-8", "surrogateescape")
    trace = event.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", event, re.ASCII) else None

    def wanted(record: Record) -> bool:
        if record.key == raw:
            return True
        if trace is not None and record.headers and trace_of(record.headers) == trace:
            return True
        # Reading every value as JSON would take longer than all the rest: first look whether the id is in it at all,
        # as it is or behind an escape.
        if record.value is not None and (raw in record.value or b"\\" in record.value):
            return reading.event_id(record, read_letter(record.headers)) == event
        return False

    return wanted
