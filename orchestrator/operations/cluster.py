"""A connection to the pipeline's cluster for looking after its topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.kafka.admin.claims import ClaimsTopic


class Connection(NamedTuple):
    """The topics, and who claims them."""

    admin: ClusterAdmin
    claims: ClaimsTopic


def connect(pipeline: Pipeline, bootstrap: str) -> Connection:
    """Nothing is asked yet. Raises UsageError for a property that no client can have."""
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.kafka.admin.claims import ClaimsTopic
    from orchestrator.kafka.properties import client_properties

    admin = ClusterAdmin(client_properties(pipeline.kafka, "admin", bootstrap))
    consumer = client_properties(pipeline.kafka, "consumer", bootstrap)
    producer = client_properties(pipeline.kafka, "producer", bootstrap)
    return Connection(admin, ClaimsTopic(admin, consumer, producer))
