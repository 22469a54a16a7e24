"""Whether a running pipeline has nothing left to do, by its workers' word and by Kafka's.

Idle: every worker is ready with nothing in flight and nothing paused, every partition is held by one, every consumer
group's committed offset is at its topics' ends, and a second later the ends of all topics are where they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from orchestrator.config.model import Handler, Inputs, Pipeline
from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.offsets.start import StartReason
from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.admin.admin import Offsets as Ends
from orchestrator.kafka.clients import Clients
from orchestrator.operations.group_positions import Standings
from orchestrator.operations.readiness import Deadline, Handlers, look, refuse_failed, wanted
from orchestrator.records import Permission, TopicPartition
from orchestrator.supervisor.control.status import HandlerStatus
from orchestrator.supervisor.policy import State

#: Seconds between two looks of which the first found nothing to do, and else.
APART = 1.0
BETWEEN = 0.2


class Look(NamedTuple):
    """What is still to be done, in words, and where every partition ends."""

    pending: list[str]
    ends: Mapping[TopicPartition, int]


def until_idle(folder: Path, pipeline: Pipeline, deadline: Deadline, apart: float = APART) -> None:
    """Return when it is idle, by two looks so many seconds `apart`.

    Raises `HandlerError`, `WaitTimeout`, and `KpipeError` when the pipeline ends.
    """
    before: Look | None = None
    cluster: ClusterOffsets | None = None
    seen = False
    while True:
        answer = look(folder, seen=seen)
        seen = seen or answer is not None
        if answer is None or answer.phase != "running":
            now = Look(["the pipeline does not run yet"], {})
        else:
            cluster = cluster or ClusterOffsets(pipeline, answer.bootstrap)
            now = _look(cluster, pipeline, wanted(answer.handlers, ()))
        if before is not None and not (before.pending or now.pending) and before.ends == now.ends:
            return
        pending = now.pending or ["new events keep coming"]
        deadline.pause(BETWEEN if now.pending else apart, partial("; ".join, pending))
        before = now


class ClusterOffsets:
    """Where the pipeline's topics end, and what its groups have committed."""

    def __init__(self, pipeline: Pipeline, bootstrap: str) -> None:
        self._admin = Clients(pipeline.kafka, bootstrap).admin()
        self.standings = Standings(pipeline, bootstrap)
        #: The ids of the topics that `partitions` was asked about last.
        self.ids: dict[str, str] = {}

    def partitions(self, topics: Sequence[str]) -> list[TopicPartition]:
        """Raises `BrokerError` when a topic cannot be seen; one that does not exist has no partitions."""
        state = self._admin.describe(topics)
        for topic, why in state.unknown.items():
            if topic in state.forbidden:
                raise ForbiddenError([Permission("DESCRIBE", "topic", topic)])
            raise BrokerError(f"{topic} cannot be seen: {why}")
        self.ids = {topic.name: topic.topic_id for topic in state.topics.values()}
        return [TopicPartition(t.name, number) for t in state.topics.values() for number in range(t.partitions)]

    def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Ends]:
        found = self._admin.offsets(partitions)
        for tp in partitions:
            if tp not in found:
                raise BrokerError(f"the leader of {tp.topic}[{tp.partition}] does not answer")
        return found


def _look(cluster: ClusterOffsets, pipeline: Pipeline, running: Handlers) -> Look:
    workers = [(entry, pipeline.handlers[entry.name]) for entry in running if entry.name in pipeline.handlers]
    consuming = [(entry, handler) for entry, handler in workers if handler.consumes]
    pending = [said for entry, _ in consuming for said in _unfinished(entry)]
    if pending:
        return Look(pending, {})
    try:
        # First what is settled, then the ends: what comes in between counts as pending, never as done.
        reads = {handler.name: pipeline.inputs_of(handler).kafka_names for _, handler in consuming}
        declared = (topic.kafka_name for topic in pipeline.topics.values())
        partitions = cluster.partitions(sorted({*declared, *(topic for topics in reads.values() for topic in topics)}))
        settled = {
            handler.name: cluster.standings.commits(
                handler, [tp for tp in partitions if tp.topic in reads[handler.name]]
            )
            for _, handler in consuming
        }
        ends = cluster.ends(partitions)
    except ForbiddenError:
        raise
    except BrokerError as away:
        return Look([away.message], {})
    held = [said for entry, handler in consuming for said in _unheld(entry, pipeline.inputs_of(handler), partitions)]
    behind = [
        words for _, handler in consuming for words in _behind(cluster, pipeline, handler, settled[handler.name], ends)
    ]
    return Look(held + behind, {tp: at.end for tp, at in ends.items()})


def _unfinished(entry: HandlerStatus) -> Iterator[str]:
    refuse_failed(entry)
    name, counts = entry.name, entry.accounting
    if entry.state != State.READY or counts is None:
        yield f"{name} is {entry.state}"
    elif counts["in_flight"]:
        yield f"{name} has {counts['in_flight']} in flight"
    elif entry.paused:
        yield f"{name} has {entry.paused} partition(s) paused"


def _unheld(entry: HandlerStatus, inputs: Inputs, partitions: Sequence[TopicPartition]) -> Iterator[str]:
    """While the group hands partitions over, what `ps` accounts for is not all of it."""
    topics = inputs.kafka_names
    there = sum(tp.topic in topics for tp in partitions)
    if entry.partitions is not None and entry.partitions < there:
        yield f"{entry.name} holds {entry.partitions} of {there} partitions"


def _behind(
    cluster: ClusterOffsets,
    pipeline: Pipeline,
    handler: Handler,
    made: Mapping[TopicPartition, Checkpoint],
    ends: Mapping[TopicPartition, Ends],
) -> Iterator[str]:
    topics = pipeline.inputs_of(handler).kafka_names
    mine = {tp: at for tp, at in ends.items() if tp.topic in topics}
    begins, highs = {tp: at.begin for tp, at in mine.items()}, {tp: at.end for tp, at in mine.items()}
    standings = cluster.standings.of(handler, made, cluster.ids, begins, highs)
    # Where retention removed everything, nothing is left to do below the first offset.
    left = sum(highs[tp] - standing.position for tp, standing in standings.items())
    moved = [tp for tp, standing in standings.items() if standing.jump and standing.jump.cause in _NOTICED]
    if left:
        yield f"{handler.name} is {left} behind"
    elif moved:
        yield f"{handler.name} has not noticed yet what became of {moved[0].topic}[{moved[0].partition}]"


#: What a worker notices within moments, and commits.
_NOTICED = frozenset({StartReason.REMADE, StartReason.TRUNCATED, StartReason.BEYOND})
