"""How far handlers are behind, in events and in time, by what their groups have committed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import ForbiddenError, UsageError
from orchestrator.records import TopicPartition
from orchestrator.text import did_you_mean

if TYPE_CHECKING:
    from orchestrator.config.model import Handler, Pipeline
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.group_positions import Standing
    from orchestrator.operations.loading import Project

#: Seconds for finding out how old the oldest waiting events are; what is not known by then stays None.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition that a handler reads; `topic` is the file's name of it.

    `committed` is an offset, None without a commit. `lag` counts events, `lag_seconds` is how long the oldest of them
    has been waiting: 0 when none waits, None when it is not known. `jump` is why the handler would not go on at the
    committed offset (a `delivery.offsets.start.Cause`), None when it would.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    lag_seconds: float | None
    jump: str | None


@dataclass(frozen=True, slots=True)
class HandlerLag:
    """A handler in all of its partitions: the sum of their lags, and the longest wait."""

    name: str
    group: str
    lag: int
    lag_seconds: float | None
    partitions: tuple[PartitionLag, ...]


def handler_lags(project: Project, handlers: Sequence[str] = ()) -> list[HandlerLag]:
    """How far the named handlers are behind, without names all that consume.

    Asks Kafka and not the running pipeline. Raises UsageError for a name that is no handler which consumes,
    BrokerError.
    """
    wanted = _wanted(project.pipeline, handlers)
    with project.reader(needs="DESCRIBE") as reader:
        positions = {handler.name: _Positions(project, handler, reader) for handler in wanted}
        oldest = {name: mine.oldest(reader) for name, mine in positions.items()}
    now = time.time() * 1000
    return [positions[handler.name].lag(oldest[handler.name], now) for handler in wanted]


class _Positions:
    """Where a handler stands in every partition that it reads: of its topics, and of its redriven letters."""

    def __init__(self, project: Project, handler: Handler, reader: Reader) -> None:
        from orchestrator.operations.group_positions import Standings

        self._handler = handler
        pipeline = project.pipeline
        self._names = {pipeline.topics[name].kafka_name: name for name in handler.consumes}
        partitions = _partitions(pipeline, handler, reader)
        asked = Standings(pipeline, project.bootstrap)
        made, ids = asked.commits(handler, partitions), asked.topic_ids(partitions)
        begins, self._ends = reader.beginnings(partitions), reader.ends(partitions)
        standings = asked.of(handler, made, ids, begins, self._ends)
        self._standings: Mapping[TopicPartition, Standing] = {tp: standings[tp] for tp in partitions}

    def oldest(self, reader: Reader) -> dict[TopicPartition, int]:
        """The timestamp of the first waiting event of each partition that has one, as far as it can be known in time.

        A timestamp is in milliseconds.
        """
        starts = {tp: standing.position for tp, standing in self._standings.items() if self._lag(tp)}
        first: dict[TopicPartition, int] = {}
        deadline = time.monotonic() + _LOOK_SECONDS
        try:
            for batch in reader.read(starts, {tp: self._ends[tp] for tp in starts}):
                for record in batch:
                    first.setdefault(TopicPartition(record.topic, record.partition), record.timestamp)
                if len(first) == len(starts) or time.monotonic() > deadline:
                    break
        except ForbiddenError:  # how many are behind is known without reading one, only not how long
            return {}
        return {tp: timestamp for tp, timestamp in first.items() if timestamp >= 0}

    def lag(self, oldest: Mapping[TopicPartition, int], now: float) -> HandlerLag:
        """`now` is in milliseconds, as the timestamps in `oldest` are."""
        partitions = tuple(self._partition(tp, oldest.get(tp), now) for tp in self._standings)
        known = [part.lag_seconds for part in partitions if part.lag_seconds is not None]
        longest = max(known, default=0.0) if len(known) == len(partitions) else None
        return HandlerLag(
            self._handler.name, self._handler.group, sum(part.lag for part in partitions), longest, partitions
        )

    def _partition(self, tp: TopicPartition, oldest: int | None, now: float) -> PartitionLag:
        committed, _, jump = self._standings[tp]
        lag = self._lag(tp)
        waited = None if oldest is None else round(max(0.0, now - oldest) / 1000, 3)
        return PartitionLag(
            self._names.get(tp.topic, tp.topic),
            tp.partition,
            None if committed is None else committed.offset,
            self._ends[tp],
            lag,
            waited if lag else 0.0,
            None if jump is None else jump.cause.value,
        )

    def _lag(self, tp: TopicPartition) -> int:
        return max(0, self._ends[tp] - self._standings[tp].position)


def _wanted(pipeline: Pipeline, names: Sequence[str]) -> list[Handler]:
    consuming = {handler.name: handler for handler in pipeline.handlers.values() if handler.consumes}
    for name in names:
        if name in pipeline.handlers and name not in consuming:
            raise UsageError(f"{name} is a service: it consumes no topics", "leave it out")
        if name not in consuming:
            hint = did_you_mean(name, consuming) or f"there are {', '.join(consuming) or 'none'}"
            raise UsageError(f"there is no handler `{name}`", hint)
    return [consuming[name] for name in dict.fromkeys(names)] or list(consuming.values())


def _partitions(pipeline: Pipeline, handler: Handler, reader: Reader) -> list[TopicPartition]:
    from orchestrator.operations.topic_names import not_created

    inputs = pipeline.inputs_of(handler)
    counts = reader.there([inputs.redrive]) if inputs.redrive else {}
    for topic in inputs.topics:
        counts[topic.kafka_name] = reader.partitions(topic.kafka_name)
        if not counts[topic.kafka_name]:
            raise not_created(topic)
    return sorted(TopicPartition(name, number) for name, count in counts.items() for number in range(count))
