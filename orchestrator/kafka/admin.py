"""The cluster as provisioning sees it: a constant number of requests however many topics there are.

Every method raises BrokerError when the cluster cannot be reached or does not let us in. What it says about single
items (a topic that exists already, a value it will not take) is returned as `Refusal`, so that one bad item never
hides what happened to the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from orchestrator.errors import BrokerError
from orchestrator.kafka.trouble import NOT_TRUSTED, UNREACHABLE, cannot_use, reason_of, wrong_property
from orchestrator.records import ClusterState, Refusal, TopicPartition, TopicSpec, TopicState

K = TypeVar("K")
Results = dict[str, Refusal | None]

#: Seconds for a request that changes something: the controller may have to write thousands of records first.
_WRITE_TIMEOUT = 30.0
_TICK = 0.1
#: librdkafka's limit (RD_KAFKAP_BROKERS_MAX).
_MOST_REPLICAS = 10_000
_TOO_MANY_REPLICAS = Refusal("INVALID_REPLICATION_FACTOR", f"more than {_MOST_REPLICAS} replicas")


class ClusterInfo(NamedTuple):
    """A cluster's id and how many brokers it has alive."""

    cluster_id: str
    brokers: int


class Offsets(NamedTuple):
    """A partition's first offset and the one its next record will get."""

    begin: int
    end: int


class ClusterAdmin:
    """One AdminClient. `timeout` is how long a question may take, in seconds: after it the cluster is unreachable."""

    def __init__(self, properties: Mapping[str, Any], *, timeout: float = 6.0) -> None:
        """`properties` come from `client_properties(settings, "admin", …)`. Raises UsageError for a wrong one."""
        self._bootstrap = str(properties["bootstrap.servers"])
        self._timeout = timeout
        self._last_error: KafkaError | None = None
        try:
            self._client = AdminClient({**properties, "error_cb": self._remember})
        except (KafkaException, TypeError, ValueError) as problem:
            raise wrong_property(problem) from problem

    def cluster(self) -> ClusterInfo:
        """Who answers: the cheapest question there is."""
        answer = self._all({"": self._client.describe_cluster(request_timeout=self._timeout)})[""]
        if isinstance(answer, KafkaError):
            raise cannot_use(self._bootstrap, answer)
        return ClusterInfo(answer.cluster_id or "", len(answer.nodes))

    def topic_names(self) -> frozenset[str]:
        """Every topic that we may see. A list of all never creates one, unlike asking for a single name."""
        try:
            return frozenset(self._client.list_topics(timeout=self._timeout).topics)
        except KafkaException as problem:
            self._client.poll(0)
            raise self._unreachable(problem.args[0]) from problem

    def describe(self, names: Sequence[str]) -> ClusterState:
        """The topics of these names: two requests, sent together."""
        if not names:
            return ClusterState()
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures: dict[tuple[str, str], Future[Any]] = {
            ("topic", name): future
            for name, future in self._client.describe_topics(
                TopicCollection(list(names)), request_timeout=self._timeout
            ).items()
        }
        configs = self._client.describe_configs(resources, request_timeout=self._timeout)
        futures |= {("configs", resource.name): future for resource, future in configs.items()}
        answers = self._all(futures)
        return _state([(name, answers["topic", name], answers["configs", name]) for name in names])

    def create(self, topics: Sequence[TopicSpec]) -> Results:
        """Create these in one request: mind KRaft's limit of 10,000 records (provisioning chunks them)."""
        # librdkafka would refuse the whole request for one such topic.
        excess = {t.name: _TOO_MANY_REPLICAS for t in topics if t.replication > _MOST_REPLICAS}
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=t.replication, config=dict(t.configs))
            for t in topics
            if t.name not in excess
        ]
        return {
            **excess,
            **self._results(self._client.create_topics(new, request_timeout=_WRITE_TIMEOUT) if new else {}),
        }

    def grow(self, totals: Mapping[str, int]) -> Results:
        """Give each topic this many partitions in total."""
        new = [NewPartitions(name, total) for name, total in totals.items()]
        return self._results(self._client.create_partitions(new, request_timeout=_WRITE_TIMEOUT) if new else {})

    def alter(self, configs: Mapping[str, Mapping[str, str]]) -> Results:
        """Set these configs and leave all others as they are (KIP-339)."""
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, value in values.items()
                ],
            )
            for name, values in configs.items()
        ]
        if not resources:
            return {}
        futures = self._client.incremental_alter_configs(resources, request_timeout=_WRITE_TIMEOUT)
        return self._results({resource.name: future for resource, future in futures.items()})

    def delete(self, names: Sequence[str]) -> Results:
        """Delete these topics and every record in them."""
        return self._results(self._client.delete_topics(list(names), request_timeout=_WRITE_TIMEOUT) if names else {})

    def serving(self, partitions: Iterable[TopicPartition]) -> frozenset[TopicPartition]:
        """Those whose leader answers for them: one request to each broker.

        A new partition has a leader in the metadata before that broker has made it one, and until then it
        answers NOT_LEADER_OR_FOLLOWER.
        """
        return frozenset(self._list_offsets(partitions, OffsetSpec.latest()))

    def offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Offsets]:
        """First and next offsets; a partition whose leader does not answer is left out."""
        begin = self._list_offsets(partitions, OffsetSpec.earliest())
        end = self._list_offsets(partitions, OffsetSpec.latest())
        return {where: Offsets(begin[where], end[where]) for where in begin.keys() & end.keys()}

    def _list_offsets(self, partitions: Iterable[TopicPartition], at: OffsetSpec) -> dict[TopicPartition, int]:
        wanted = {RdTopicPartition(topic, number): at for topic, number in partitions}
        if not wanted:
            return {}
        futures = self._client.list_offsets(wanted, request_timeout=self._timeout)
        answers = self._all({TopicPartition(p.topic, p.partition): future for p, future in futures.items()})
        return {where: a.offset for where, a in answers.items() if not isinstance(a, KafkaError)}

    def _results(self, futures: Mapping[str, Future[Any]]) -> Results:
        return {
            name: Refusal(answer.name(), reason_of(answer)) if isinstance(answer, KafkaError) else None
            for name, answer in self._all(futures).items()
        }

    def _all(self, futures: Mapping[K, Future[Any]]) -> dict[K, Any]:
        """What each future brings: a value, or the KafkaError that the broker gave for this item.

        Raises BrokerError when any of them never reached the cluster. The client lives in `self` until then:
        librdkafka drops what is under way when its handle goes.
        """
        pending = set(futures.values())
        while pending:
            pending = wait(pending, timeout=_TICK).not_done
            self._client.poll(0)  # librdkafka's errors and its log are delivered here
            if pending and self._last_error is not None and self._last_error.code() in NOT_TRUSTED:
                raise cannot_use(self._bootstrap, self._last_error)
        answers = {key: _answer(future) for key, future in futures.items()}
        for answer in answers.values():
            if isinstance(answer, KafkaError) and answer.code() in UNREACHABLE | NOT_TRUSTED:
                raise self._unreachable(answer)
        self._last_error = None
        return answers

    def _unreachable(self, error: KafkaError) -> BrokerError:
        """The reason behind a request that timed out is what the connections said meanwhile, if anything."""
        return cannot_use(self._bootstrap, self._last_error or error)

    def _remember(self, error: KafkaError) -> None:
        # "All brokers down" follows the reason why, and would hide it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error


def _answer(future: Future[Any]) -> Any:
    problem = future.exception()
    if problem is None:
        return future.result()
    if isinstance(problem, KafkaException):
        return problem.args[0]
    raise problem


def _state(described: Iterable[tuple[str, Any, Any]]) -> ClusterState:
    topics: dict[str, TopicState] = {}
    unknown: dict[str, str] = {}
    for name, topic, configs in described:
        error = _blocking(topic) or _blocking(configs, may_be_forbidden=True)
        if error is None:
            topics[name] = _topic_state(name, topic.partitions, configs)
        elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            unknown[name] = reason_of(error)
    return ClusterState(topics, unknown)


def _blocking(answer: Any, *, may_be_forbidden: bool = False) -> KafkaError | None:
    """The error that keeps us from knowing a topic, if `answer` is one."""
    if not isinstance(answer, KafkaError):
        return None
    if may_be_forbidden and answer.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return None
    return answer


def _topic_state(name: str, partitions: Sequence[Any], configs: Any) -> TopicState:
    entries = [] if isinstance(configs, KafkaError) else [e for e in configs.values() if e.value is not None]
    own = {e.name: e.value for e in entries if e.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value}
    return TopicState(
        name=name,
        partitions=len(partitions),
        replication=min((len(p.replicas) for p in partitions), default=0),
        overrides=None if isinstance(configs, KafkaError) else own,
        defaults={e.name: e.value for e in entries if e.name not in own},
        leaderless=sum(1 for p in partitions if p.leader is None or p.leader.id < 0),
    )
