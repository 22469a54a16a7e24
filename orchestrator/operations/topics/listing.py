"""The pipeline's topics as the cluster has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.config.model import Topic
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.operations.loading import Project
    from orchestrator.provisioning.inventory import Row
    from orchestrator.records import ClusterState, TopicSpec


def list_topics(project: Project) -> Sequence[Row]:
    """A row for each topic of the file, and for each topic of redriven letters that is there. Raises BrokerError."""
    from orchestrator.provisioning.inventory import inventory
    from orchestrator.provisioning.ownership import Claims, owner_of
    from orchestrator.provisioning.redrive_topics import redrive_specs
    from orchestrator.provisioning.survey import measured

    pipeline, admin = project.pipeline, project.admin()
    redriven = redrive_specs(pipeline)
    names = [*(topic.kafka_name for topic in pipeline.topics.values()), *(spec.name for spec in redriven)]
    state = admin.describe(names)
    sizes = measured(pipeline, admin, state, Claims(owner_of(pipeline)))
    topics = [sizes.applied(topic) for topic in (*pipeline.topics.values(), *_existing(redriven, state))]
    return inventory(topics, state, _records(admin, state))


def _existing(redriven: Sequence[TopicSpec], state: ClusterState) -> list[Topic]:
    """The topics of redriven letters that are there: they are declared by no file."""
    from orchestrator.config.model import Topic
    from orchestrator.provisioning.redrive_topics import as_they_are

    specs = as_they_are(redriven, state)
    return [Topic(spec.name, spec.name, spec.partitions, spec.replication, spec.configs) for spec in specs]


def _records(admin: ClusterAdmin, state: ClusterState) -> dict[str, int | None]:
    """Records by topic; None where a partition did not answer."""
    from orchestrator.records import TopicPartition

    wanted = {
        name: [TopicPartition(name, number) for number in range(topic.partitions)]
        for name, topic in state.topics.items()
    }
    found = admin.offsets([where for partitions in wanted.values() for where in partitions])
    return {
        name: sum(found[p].end - found[p].begin for p in partitions) if found.keys() >= set(partitions) else None
        for name, partitions in wanted.items()
    }
