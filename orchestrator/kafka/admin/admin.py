"""The cluster as provisioning sees it: a constant number of requests however many topics there are.

Every method raises BrokerError when the cluster cannot be reached or does not let us in. What it says about single
items (a topic that exists already, a value it will not take) is returned as `Refusal`, so that one bad item never
hides what happened to the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from orchestrator.kafka.admin.admin_client import WRITE_TIMEOUT, Results
from orchestrator.kafka.admin.offsets import Offsets
from orchestrator.kafka.admin.topic_ids import topic_id_text
from orchestrator.kafka.admin.usage import UsageAdmin
from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import cannot_use, reason_of
from orchestrator.records import ClusterState, Refusal, TopicPartition, TopicSpec, TopicState

__all__ = ["ClusterAdmin", "ClusterInfo", "Offsets"]

_BROKER_LIMIT = "message.max.bytes"
#: librdkafka's limit (RD_KAFKAP_BROKERS_MAX).
_MOST_REPLICAS = 10_000
_TOO_MANY_REPLICAS = Refusal("INVALID_REPLICATION_FACTOR", f"more than {_MOST_REPLICAS} replicas")


class ClusterInfo(NamedTuple):
    """A cluster's id and how many brokers it has alive."""

    cluster_id: str
    brokers: int


class ClusterAdmin(UsageAdmin):
    """The cluster's topics: what they are like, and every way to change them."""

    def cluster(self) -> ClusterInfo:
        """Who answers: the cheapest question there is."""
        answer = self._all({"": self._client.describe_cluster(request_timeout=self._timeout)})[""]
        if isinstance(answer, KafkaError):
            raise cannot_use(self._properties, answer)
        return ClusterInfo(answer.cluster_id or "", len(answer.nodes))

    def record_limit(self) -> int | None:
        """The broker's `message.max.bytes`: the limit of topics without one of their own, in bytes.

        One broker answers for all. None when this user may not see it.
        """
        nodes = self._all({"": self._client.describe_cluster(request_timeout=self._timeout)})[""]
        if isinstance(nodes, KafkaError) or not nodes.nodes:
            return None
        broker = ConfigResource(ResourceType.BROKER, str(nodes.nodes[0].id))
        asked = self._client.describe_configs([broker], request_timeout=self._timeout)
        answer = self._all({"": asked[broker]})[""]
        text = "" if isinstance(answer, KafkaError) else str(answer[_BROKER_LIMIT].value)
        return int(text) if text.isdecimal() else None

    def topic_names(self) -> frozenset[str]:
        """Every topic that we may see. A list of all never creates one, unlike asking for a single name."""
        try:
            return frozenset(checked(self._client.list_topics, timeout=self._timeout).topics)
        except KafkaException as problem:
            self._client.poll(0)
            raise self._unreachable(problem.args[0]) from problem

    def describe(self, names: Sequence[str]) -> ClusterState:
        """The topics of these names: two requests, sent together."""
        if not names:
            return ClusterState()
        # A broker takes about a millisecond for each topic's configs, and may have other things to do.
        timeout = self._timeout + len(names) / 100
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures: dict[tuple[str, str], Future[Any]] = {
            ("topic", name): future
            for name, future in self._client.describe_topics(
                TopicCollection(list(names)), request_timeout=timeout
            ).items()
        }
        configs = self._client.describe_configs(resources, request_timeout=timeout)
        futures |= {("configs", resource.name): future for resource, future in configs.items()}
        answers = self._all(futures)
        return _state([(name, answers["topic", name], answers["configs", name]) for name in names])

    def create(self, topics: Sequence[TopicSpec], *, validate: bool = False) -> Results:
        """Create these in one request: mind KRaft's limit of 10,000 records (provisioning chunks them).

        `validate` here and below: only ask whether the broker would take it.
        """
        # librdkafka would refuse the whole request for one such topic.
        excess = {t.name: _TOO_MANY_REPLICAS for t in topics if t.replication > _MOST_REPLICAS}
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=t.replication, config=dict(t.configs))
            for t in topics
            if t.name not in excess
        ]
        return {
            **excess,
            **self._results(
                self._client.create_topics(new, request_timeout=WRITE_TIMEOUT, validate_only=validate) if new else {}
            ),
        }

    def grow(self, totals: Mapping[str, int], *, validate: bool = False) -> Results:
        """Give each topic this many partitions in total."""
        new = [NewPartitions(name, total) for name, total in totals.items()]
        if not new:
            return {}
        futures = self._client.create_partitions(new, request_timeout=WRITE_TIMEOUT, validate_only=validate)
        return self._results(futures)

    def alter(self, configs: Mapping[str, Mapping[str, str | None]], *, validate: bool = False) -> Results:
        """Set these configs (None: back to the broker's default) and leave all others as they are (KIP-339)."""
        resources = [
            ConfigResource(
                ResourceType.TOPIC, name, incremental_configs=[_operation(key, value) for key, value in values.items()]
            )
            for name, values in configs.items()
        ]
        if not resources:
            return {}
        futures = self._client.incremental_alter_configs(
            resources, request_timeout=WRITE_TIMEOUT, validate_only=validate
        )
        return self._results({resource.name: future for resource, future in futures.items()})

    def delete(self, names: Sequence[str]) -> Results:
        """Delete these topics and every record in them."""
        return self._results(self._client.delete_topics(list(names), request_timeout=WRITE_TIMEOUT) if names else {})

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, Refusal | None]:
        """Delete the records of each partition that come before an offset."""
        wanted = [RdTopicPartition(tp.topic, tp.partition, offset) for tp, offset in offsets.items()]
        if not wanted:
            return {}
        futures = self._client.delete_records(wanted, request_timeout=WRITE_TIMEOUT)
        answers = self._all({TopicPartition(tp.topic, tp.partition): future for tp, future in futures.items()})
        return {
            tp: Refusal(answer.name(), reason_of(answer)) if isinstance(answer, KafkaError) else None
            for tp, answer in answers.items()
        }


def _operation(key: str, value: str | None) -> ConfigEntry:
    kind = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    return ConfigEntry(key, value, incremental_operation=kind)


def _state(described: Iterable[tuple[str, Any, Any]]) -> ClusterState:
    topics: dict[str, TopicState] = {}
    unknown: dict[str, str] = {}
    forbidden: set[str] = set()
    for name, topic, configs in described:
        error = _blocking(topic) or _blocking(configs, may_be_forbidden=True)
        if error is None:
            topics[name] = _topic_state(name, topic, configs)
        elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            unknown[name] = reason_of(error)
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                forbidden.add(name)
    return ClusterState(topics, unknown, frozenset(forbidden))


def _blocking(answer: Any, *, may_be_forbidden: bool = False) -> KafkaError | None:
    """The error that keeps us from knowing a topic, if `answer` is one."""
    if not isinstance(answer, KafkaError):
        return None
    if may_be_forbidden and answer.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return None
    return answer


def _topic_state(name: str, topic: Any, configs: Any) -> TopicState:
    entries = [] if isinstance(configs, KafkaError) else [e for e in configs.values() if e.value is not None]
    own = {e.name: e.value for e in entries if e.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value}
    below = {e.name: value for e in entries if e.name in own and (value := _below(e)) is not None}
    return TopicState(
        name=name,
        partitions=len(topic.partitions),
        replication=min((len(p.replicas) for p in topic.partitions), default=0),
        overrides=None if isinstance(configs, KafkaError) else own,
        defaults={e.name: e.value for e in entries if e.name not in own} | below,
        leaderless=sum(1 for p in topic.partitions if p.leader is None or p.leader.id < 0),
        topic_id=topic_id_text(topic.topic_id),
        internal=bool(topic.is_internal),
    )


def _below(entry: Any) -> str | None:
    """What applies once the topic's own value is gone, where the broker says so in the key's own unit."""
    same = entry.synonyms.get(entry.name)
    if same is None or same.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value:
        return None
    value: str | None = same.value
    return value
