"""Provisioning on a real Apache Kafka: what the plan says is what the cluster then has."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.errors import UsageError
from orchestrator.kafka.admin.admin import ClusterAdmin, ClusterInfo, Offsets
from orchestrator.kafka.properties import client_properties
from orchestrator.provisioning.apply import apply, look
from orchestrator.provisioning.execute import sync_for_up
from orchestrator.provisioning.plan import Plan
from orchestrator.provisioning.visibility import await_leaders
from orchestrator.records import ClusterState, Refusal, TopicPartition, TopicSpec, TopicUse
from tests.support.cluster import FakeClaims

pytestmark = pytest.mark.kafka

DAY, WEEK = "86400000", "604800000"
Results = dict[str, Refusal | None]


class Counting:
    """An admin that notes every write it passes on."""

    def __init__(self, admin: ClusterAdmin) -> None:
        self.admin = admin
        self.writes: list[str] = []

    def cluster(self) -> ClusterInfo:
        return self.admin.cluster()

    def use(self, partitions: Mapping[str, int], kept_from: Mapping[str, int]) -> Mapping[str, TopicUse]:
        return self.admin.use(partitions, kept_from)

    def delete(self, names: Sequence[str]) -> Results:
        self.writes.append("delete")
        return self.admin.delete(names)

    def describe(self, names: Sequence[str]) -> ClusterState:
        return self.admin.describe(names)

    def serving(self, partitions: Sequence[TopicPartition]) -> Collection[TopicPartition]:
        return self.admin.serving(partitions)

    def create(self, topics: Sequence[TopicSpec], *, validate: bool = False) -> Results:
        self.writes += [] if validate else ["create"]
        return self.admin.create(topics, validate=validate)

    def grow(self, totals: Mapping[str, int], *, validate: bool = False) -> Results:
        self.writes += [] if validate else ["grow"]
        return self.admin.grow(totals, validate=validate)

    def record_limit(self) -> int | None:
        return self.admin.record_limit()

    def alter(self, configs: Mapping[str, Mapping[str, str | None]], *, validate: bool = False) -> Results:
        self.writes += [] if validate else ["alter"]
        return self.admin.alter(configs, validate=validate)


@pytest.fixture
def admin(kafka: str) -> ClusterAdmin:
    return ClusterAdmin(client_properties(KafkaSettings(), "admin", kafka))


@pytest.fixture
def prefix(admin: ClusterAdmin) -> Iterator[str]:
    """A prefix for topic names; what has it is deleted at the end."""
    name = f"t{uuid.uuid4().hex[:10]}."
    yield name
    admin.delete([topic for topic in admin.topic_names() if topic.startswith(name)])


def synced(declared: Sequence[TopicSpec], admin: ClusterAdmin) -> Plan:
    """Declare, apply, wait; every step has to be taken."""
    wanted = look(declared, admin)
    assert apply(wanted, declared, admin).failed == ()
    await_leaders(declared, admin)
    return wanted


def test_creates_what_is_declared_and_then_has_nothing_to_write(admin: ClusterAdmin, prefix: str) -> None:
    topics = {
        name: Topic(name, prefix + name, partitions, 1, configs)
        for name, partitions, configs in [
            ("orders", 3, {"retention.ms": WEEK, "cleanup.policy": "delete", "max.message.bytes": "1000000"}),
            ("log", 2, {"retention.ms": "-1", "cleanup.policy": "delete,compact"}),
            ("plain", 1, {}),
        ]
    }
    pipeline = Pipeline("p", prefix[:-1], Path(), KafkaSettings(), topics, {}, {})
    counting, claims = Counting(admin), FakeClaims()
    assert sync_for_up(pipeline, counting, claims).totals()["create"] == 3
    assert counting.writes == ["create"]
    assert sync_for_up(pipeline, counting, claims).is_empty
    assert claims.writes == 1
    assert counting.writes == ["create"]
    state = admin.describe([prefix + "orders"]).topics[prefix + "orders"]
    assert (state.partitions, state.replication, state.leaderless) == (3, 1, 0)
    assert state.overrides is not None
    assert state.overrides["retention.ms"] == WEEK
    assert state.defaults["compression.type"] == "producer"


def test_the_brokers_limit_for_records(admin: ClusterAdmin) -> None:
    assert admin.record_limit() == 1_048_588, "Kafka's default"


def test_every_leader_answers_when_the_wait_is_over(admin: ClusterAdmin, prefix: str) -> None:
    declared = [TopicSpec(f"{prefix}{i}", 20, 1) for i in range(5)]
    synced(declared, admin)
    state = admin.describe([spec.name for spec in declared])
    assert [topic.partitions for topic in state.topics.values()] == [20] * 5
    assert not any(topic.leaderless for topic in state.topics.values())
    assert len(admin.offsets([TopicPartition(s.name, p) for s in declared for p in range(20)])) == 100


def test_a_change_by_hand_is_found_with_old_and_new_value_and_undone(admin: ClusterAdmin, prefix: str) -> None:
    spec = TopicSpec(prefix + "t", 1, 1, {"retention.ms": WEEK})
    synced([spec], admin)
    assert admin.alter({spec.name: {"retention.ms": DAY}}) == {spec.name: None}
    assert [(c.field, c.old, c.new) for c in look([spec], admin).changes] == [("retention.ms", DAY, WEEK)]
    synced([spec], admin)
    assert look([spec], admin).is_empty


def test_todays_default_is_pinned_and_an_override_of_others_survives(admin: ClusterAdmin, prefix: str) -> None:
    spec = TopicSpec(prefix + "t", 1, 1, {"max.message.bytes": "5000"})
    synced([spec], admin)
    default = admin.describe([spec.name]).topics[spec.name].defaults["retention.ms"]
    pinned = replace(spec, configs={"retention.ms": default})
    assert [(c.field, c.old, c.risk) for c in look([pinned], admin).changes] == [("retention.ms", None, "safe")]
    synced([pinned], admin)
    assert admin.describe([spec.name]).topics[spec.name].overrides == {
        "max.message.bytes": "5000",
        "retention.ms": default,
    }


def test_values_that_are_zero_or_false_are_values(admin: ClusterAdmin, prefix: str) -> None:
    values = {"delete.retention.ms": "0", "min.cleanable.dirty.ratio": "0", "preallocate": "false"}
    spec = TopicSpec(prefix + "t", 1, 1, values)
    synced([spec], admin)
    assert (admin.describe([spec.name]).topics[spec.name].overrides or {}).keys() == values.keys()
    assert look([spec], admin).is_empty
    one = replace(spec, configs={**values, "delete.retention.ms": "1"})
    synced([one], admin)
    assert [(c.old, c.new) for c in look([spec], admin).changes] == [("1", "0")]


def test_grows_and_waits_for_the_new_partitions(admin: ClusterAdmin, prefix: str) -> None:
    spec = TopicSpec(prefix + "t", 2, 1)
    synced([spec], admin)
    grown = synced([replace(spec, partitions=5)], admin)
    assert [(c.action, c.old, c.new, c.risk) for c in grown.changes] == [("grow", 2, 5, "reorders")]
    assert admin.describe([spec.name]).topics[spec.name].partitions == 5


def test_a_refused_plan_leaves_the_cluster_as_it_was(admin: ClusterAdmin, prefix: str) -> None:
    spec = TopicSpec(prefix + "t", 3, 1)
    synced([spec], admin)
    counting = Counting(admin)
    declared = [replace(spec, partitions=1), TopicSpec(prefix + "new", 1, 1)]
    with pytest.raises(UsageError, match="partitions 3 -> 1"):
        apply(look(declared, counting), declared, counting)
    assert counting.writes == []
    assert prefix + "new" not in admin.topic_names()


def test_an_item_that_the_broker_refuses_is_named_and_the_rest_is_done(admin: ClusterAdmin, prefix: str) -> None:
    declared = [
        TopicSpec(prefix + "bad-key", 1, 1, {"no.such.config": "1"}),
        TopicSpec(prefix + "bad-value", 1, 1, {"retention.ms": "soon"}),
        TopicSpec(prefix + "too-many-replicas", 1, 30_000),
        TopicSpec(prefix + "good", 1, 1),
    ]
    outcome = apply(look(declared, admin), declared, admin)
    assert {f.topic.removeprefix(prefix): f.refusal.code for f in outcome.failed} == {
        "bad-key": "INVALID_CONFIG",
        "bad-value": "INVALID_CONFIG",
        "too-many-replicas": "INVALID_REPLICATION_FACTOR",
    }
    assert "no.such.config" in str(outcome.failed[0])
    assert {change.topic for change in outcome.applied} == {prefix + "good"}
    await_leaders(declared[-1:], admin)


def test_two_at_once_both_succeed(admin: ClusterAdmin, prefix: str) -> None:
    """Both planned before either applied: the second loses every race and finds nothing left to do."""
    declared = [TopicSpec(f"{prefix}{i}", 2, 1, {"retention.ms": DAY}) for i in range(5)]
    first, second = look(declared, admin), look(declared, admin)
    assert apply(first, declared, admin).failed == ()
    assert apply(second, declared, admin).failed == ()
    assert look(declared, admin).is_empty


def test_more_partitions_than_one_request_may_have_are_planned_in_chunks(kafka: str, admin: ClusterAdmin) -> None:
    """The controller's own limit, asked without creating anything: the chunks have to stay below it."""
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": kafka})
    too_many = [NewTopic(f"never{i}", 5_001, 1) for i in range(2)]
    for future in client.create_topics(too_many, validate_only=True).values():
        assert future.exception() is not None
    for future in client.create_topics(too_many[:1], validate_only=True).values():
        assert future.exception() is None


def test_asking_for_a_topic_does_not_create_it(admin: ClusterAdmin, prefix: str) -> None:
    assert admin.describe([prefix + "t"]) == ClusterState()
    assert prefix + "t" not in admin.topic_names()


def test_offsets_count_what_was_written(admin: ClusterAdmin, prefix: str, kafka: str) -> None:
    spec = TopicSpec(prefix + "t", 2, 1)
    synced([spec], admin)
    producer = Producer(client_properties(KafkaSettings(), "producer", kafka))
    for _ in range(7):
        producer.produce(spec.name, b"x", partition=1)
    assert producer.flush(30) == 0
    asked = [TopicPartition(spec.name, 0), TopicPartition(spec.name, 1), TopicPartition(prefix + "absent", 0)]
    assert admin.offsets(asked) == {asked[0]: Offsets(0, 0), asked[1]: Offsets(0, 7)}


def test_the_cluster_answers(admin: ClusterAdmin) -> None:
    answer = admin.cluster()
    assert answer.brokers >= 1
    assert answer.cluster_id
