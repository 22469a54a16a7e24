"""Where a handler's group stands in its partitions, by its commits and the topics that they are of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.config.model import Handler, Pipeline
from orchestrator.delivery.offsets.checkpoint import Birth, Checkpoint, read_checkpoint
from orchestrator.delivery.offsets.start import Group, Jump, Log, is_remade, start_from, start_without_commit
from orchestrator.kafka.admin.committed import commits
from orchestrator.kafka.clients import Clients
from orchestrator.records import TopicPartition

if TYPE_CHECKING:
    from orchestrator.operations.trace.causality import RecordPlace

Offsets = Mapping[TopicPartition, int]


class Standing(NamedTuple):
    """A group in one partition: what it committed last (None: nothing), and where a worker would go on.

    `jump` is why that is somewhere else, None where it goes on at the committed offset.
    """

    committed: Checkpoint | None
    position: int
    jump: Jump | None


class Standings:
    """Asks a cluster. Raises BrokerError and ForbiddenError, as what it asks does."""

    def __init__(self, pipeline: Pipeline, bootstrap: str) -> None:
        self._redriven = frozenset(pipeline.redrive_topics())
        clients = Clients(pipeline.kafka, bootstrap)
        self._consumer = clients.consumer_properties()
        self._ids = clients.topic_ids()

    def commits(self, handler: Handler, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Checkpoint]:
        """What the handler's group has committed last in each of these partitions."""
        made = commits(self._consumer, handler.group, partitions)
        return {tp: read_checkpoint(offset, metadata) for tp, (offset, metadata) in made.items()}

    def topic_ids(self, partitions: Iterable[TopicPartition]) -> dict[str, str]:
        """The ids of their topics, as far as the cluster tells."""
        names = sorted({tp.topic for tp in partitions})
        return {name: identity.topic_id for name, identity in self._ids.of(names).items()}

    def of(
        self,
        handler: Handler,
        made: Mapping[TopicPartition, Checkpoint],
        ids: Mapping[str, str],
        begins: Offsets,
        ends: Offsets,
    ) -> dict[TopicPartition, Standing]:
        """Where the group with the commits `made` stands in the partitions of `ends`, all of those that it reads."""
        births: list[Birth] = [one.birth for one in made.values() if one.birth is not None]
        group = Group(len(made), births)

        def standing(tp: TopicPartition) -> Standing:
            log = Log(tp, begins[tp], ends[tp], ids.get(tp.topic, ""))
            committed = made.get(tp)
            if committed is not None:
                start = start_from(committed, log)
            else:
                latest = handler.start_from == "latest" and tp.topic not in self._redriven
                start = start_without_commit(log, latest=group if latest else None, now=time.time())
            return Standing(committed, start.checkpoint.offset, start.jump)

        return {tp: standing(tp) for tp in ends}


def settled_by(committed: Checkpoint | None, place: RecordPlace, ids: Mapping[str, str]) -> bool:
    """Whether a commit says that the record at `place` is settled, in a topic whose id is in `ids`."""
    if committed is None or is_remade(ids.get(place.topic, ""), committed.topic_id):
        return False
    return place.offset < committed.offset or any(a <= place.offset < b for a, b in committed.settled)
