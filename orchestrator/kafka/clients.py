"""Every Kafka client of kpipe is made here: of which kind, with which properties.

A client's class is imported when the first one of its kind is made: most commands need one kind only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.kafka.properties import LIBRDKAFKA_LOG as LIBRDKAFKA_LOG
from orchestrator.kafka.properties import client_properties, denser

if TYPE_CHECKING:
    from orchestrator.config.model import KafkaSettings
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.kafka.admin.claims import ClaimsTopic
    from orchestrator.kafka.admin.permissions import AccessAdmin
    from orchestrator.kafka.admin.topic_ids import TopicIds
    from orchestrator.kafka.consumer import AssignmentListener, GroupConsumer
    from orchestrator.kafka.exclusive_writer import ExclusiveWriter
    from orchestrator.kafka.isolating_producer import IsolatingProducer
    from orchestrator.kafka.producer import Producer
    from orchestrator.kafka.reader import Reader


class TopicAdmin(NamedTuple):
    """The topics of a cluster, and who claims them."""

    admin: ClusterAdmin
    claims: ClaimsTopic


@dataclass(frozen=True)
class Clients:
    """Makes clients of the cluster at `bootstrap` ("host:port[,host:port]") with the `kafka:` part of a pipeline file.

    Making a client asks nothing of the cluster. Every method raises UsageError for a property that no client can have.
    """

    settings: KafkaSettings
    bootstrap: str

    def answers(self) -> bool:
        """Whether a Kafka answers. Raises BrokerError for one that does not let these clients in."""
        from orchestrator.kafka.ping import ping

        return ping(self.bootstrap, client_properties(self.settings, "admin", self.bootstrap))

    def admin(self, *, timeout: float = 6.0) -> ClusterAdmin:
        """`timeout`: seconds for each question."""
        from orchestrator.kafka.admin.admin import ClusterAdmin

        return ClusterAdmin(client_properties(self.settings, "admin", self.bootstrap), timeout=timeout)

    def topics(self) -> TopicAdmin:
        """For looking after topics."""
        from orchestrator.kafka.admin.claims import ClaimsTopic

        admin = self.admin()
        return TopicAdmin(admin, ClaimsTopic(admin, self.consumer_properties(), self.producer_properties()))

    def access(self) -> AccessAdmin:
        """Asks what the user of the admin client may do."""
        from orchestrator.kafka.admin.permissions import AccessAdmin

        return AccessAdmin(client_properties(self.settings, "admin", self.bootstrap))

    def topic_ids(self) -> TopicIds:
        from orchestrator.kafka.admin.topic_ids import TopicIds

        return TopicIds(client_properties(self.settings, "admin", self.bootstrap))

    def reader(self, *, needs: str = "READ") -> Reader:
        """Reads topics without a consumer group. `needs`: the permission on topics that an error names."""
        from orchestrator.kafka.reader import Reader

        return Reader(self.consumer_properties(), needs=needs)

    def producer(self) -> Producer:
        from orchestrator.kafka.producer import Producer

        return Producer(self.producer_properties())

    def isolating_producer(self, smallest: int | None, *, expiry: float | None = None) -> IsolatingProducer:
        """One whose records do not fail with their neighbours in a batch that is too large.

        `smallest` is the least record limit of the topics that are written to, in bytes. `expiry`: seconds after which
        a record that is not acknowledged has failed; None: never.
        """
        from orchestrator.kafka.isolating_producer import IsolatingProducer

        properties = self.producer_properties(smallest)
        if expiry is not None:
            properties["message.timeout.ms"] = str(max(1, round(expiry * 1000)))
        return IsolatingProducer(properties, self.denser())

    def exclusive_writer(self, transactional_id: str, smallest: int | None = None) -> ExclusiveWriter:
        """Writes in transactions, one writer of a name at a time."""
        from orchestrator.kafka.exclusive_writer import ExclusiveWriter

        return ExclusiveWriter(self.producer_properties(smallest) | self.denser(), transactional_id)

    def group_consumer(
        self, group: str, topics: Sequence[str], assignments: AssignmentListener, optional: Sequence[str] = ()
    ) -> GroupConsumer:
        """A member of a consumer group. `topics` are the cluster's names; `optional` ones need not exist yet."""
        from orchestrator.kafka.consumer import GroupConsumer

        return GroupConsumer(self.consumer_properties(group), topics, assignments, optional)

    def consumer_properties(self, group: str | None = None) -> dict[str, Any]:
        """What the functions of `kafka/` take that make a consumer for one question."""
        properties = client_properties(self.settings, "consumer", self.bootstrap)
        return properties if group is None else {**properties, "group.id": group}

    def producer_properties(self, smallest: int | None = None) -> dict[str, Any]:
        return client_properties(self.settings, "producer", self.bootstrap, smallest=smallest)

    def denser(self) -> dict[str, str]:
        """What makes a producer's batches smaller, {} where the user says how to compress."""
        return denser(self.settings)
