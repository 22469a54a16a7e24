"""What a user may do on the cluster: the question what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, TopicCollection

from orchestrator.errors import ForbiddenError
from orchestrator.kafka.admin.admin_client import Asking
from orchestrator.kafka.errors import REFUSED


def may_transact(properties: Mapping[str, Any], transactional_id: str) -> bool:
    """Whether this user may write transactions under this id. Raises BrokerError when Kafka has none to give.

    Kafka answers no question about it, so one is opened, which ends what a former life of its owner left open.
    `properties` come from `client_properties(settings, "producer", …)`.
    """
    from orchestrator.kafka.exclusive_writer import ExclusiveWriter

    try:
        ExclusiveWriter(properties, transactional_id).start()
    except ForbiddenError:
        return False
    return True


class AccessAdmin(Asking):
    """Asks what this user may do."""

    def topics(self, names: Sequence[str]) -> dict[str, frozenset[str]]:
        """The operations allowed on each topic; empty where it may not even be seen. Absent topics are left out."""
        if not names:
            return {}
        futures = self._client.describe_topics(
            TopicCollection(list(names)), include_authorized_operations=True, request_timeout=self._timeout
        )
        return _operations(self._all(futures), KafkaError.UNKNOWN_TOPIC_OR_PART)

    def groups(self, names: Sequence[str]) -> dict[str, frozenset[str]]:
        """The same for consumer groups; one that has no members and no offsets is left out."""
        if not names:
            return {}
        futures = self._client.describe_consumer_groups(
            list(names), include_authorized_operations=True, request_timeout=self._timeout
        )
        return _operations(self._all(futures), KafkaError.GROUP_ID_NOT_FOUND)


def _operations(answers: Mapping[str, Any], absent: int) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for name, answer in answers.items():
        if not isinstance(answer, KafkaError):
            allowed = answer.authorized_operations
            if allowed is not None:  # a broker that does not say leaves it open
                found[name] = frozenset(operation.name for operation in allowed)
        elif answer.code() in REFUSED:
            found[name] = frozenset()
        elif answer.code() != absent:
            continue
    return found
