"""A life of pipeline files against one cluster: after every sync the plan is empty and nothing more is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.errors import UsageError
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from orchestrator.provisioning import consent, plan_file
from orchestrator.provisioning.consent import Allowed
from orchestrator.provisioning.execute import Cluster, carry_out
from orchestrator.provisioning.survey import Registry, survey
from orchestrator.records import TopicState
from tests.support.cluster import DEFAULTS, FakeClaims, FakeCluster
from tests.support.prefix import fresh_prefix

CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "retention.ms": st.sampled_from(["-1", "1000", "604800000", "0604800000"]),
        "retention.bytes": st.sampled_from(["-1", "100000"]),
        "cleanup.policy": st.sampled_from(["delete", "compact", "compact,delete", "delete,compact"]),
        "min.insync.replicas": st.just("1"),
        "unclean.leader.election.enable": st.sampled_from(["true", "false", "TRUE"]),
        "compression.type": st.sampled_from(["producer", "lz4"]),
        "min.cleanable.dirty.ratio": st.sampled_from(["0.5", "0.50", "1"]),
        "max.message.bytes": st.sampled_from(["1000000", "1048588"]),
    },
)
NAMES = ("a", "b.c", "d-e", "f_g")


@st.composite
def files(draw: st.DrawFn, owner: str = "shop") -> Pipeline:
    """A pipeline with up to four topics; names and sizes repeat between files, so that they change the same topics."""
    topics = {
        name: Topic(name, name, draw(st.integers(1, 3)), 1, draw(CONFIGS), key=draw(st.sampled_from((None, "id"))))
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    }
    return Pipeline(owner, "", Path(), KafkaSettings(), topics, {}, {})


def named(file: Pipeline, prefix: str) -> Pipeline:
    """The same file in a namespace of its own."""
    topics = {
        name: Topic(name, prefix + name, t.partitions, 1, t.configs, key=t.key) for name, t in file.topics.items()
    }
    return Pipeline(file.name, prefix[:-1], file.base, file.kafka, topics, {}, {})


def synced(file: Pipeline, cluster: Cluster, claims: Registry, *, prune: bool) -> bool:
    """Sync with every risk allowed; False when the plan is refused, and then nothing may have happened."""
    seen = survey(file, cluster, claims, prune=prune)
    try:
        seen.plan.raise_if_refused()
    except UsageError:
        return False
    consent.require(seen.plan, consent.missing(seen.plan, ()))
    result = carry_out(seen, cluster, claims, sleep=lambda _: None)
    assert result.outcome.failed == ()
    assert result.outcome.applied == seen.plan.changes
    return True


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(files(), st.booleans()), min_size=1, max_size=4))
def test_after_any_life_the_plan_is_empty_and_a_second_sync_writes_nothing(
    life: list[tuple[Pipeline, bool]],
) -> None:
    cluster, claims = FakeCluster(), FakeClaims()
    for file, prune in life:
        before = (dict(cluster.topics), dict(claims.all))
        if not synced(file, cluster, claims, prune=prune):
            assert (cluster.topics, claims.all) == before
            continue
        assert survey(file, cluster, claims, prune=prune).plan.is_empty
        writes = (len(cluster.writes), claims.writes)
        assert synced(file, cluster, claims, prune=prune)
        assert (len(cluster.writes), claims.writes) == writes


@settings(deadline=None)
@given(st.lists(files(), max_size=3), files(), st.sets(st.sampled_from(NAMES)))
def test_what_was_there_before_is_never_removed(life: list[Pipeline], last: Pipeline, there: set[str]) -> None:
    cluster = FakeCluster([TopicState(name, 1, 1, {}, DEFAULTS, topic_id=f"theirs-{name}") for name in there])
    claims = FakeClaims()
    for file in [*life, last]:
        synced(file, cluster, claims, prune=True)
    assert there <= cluster.topics.keys()
    assert all(cluster.topics[name].topic_id == f"theirs-{name}" for name in there)


@settings(deadline=None)
@given(files("shop"), files("till"), files("shop"))
def test_of_two_pipelines_neither_gets_the_others_topics_without_a_word(
    first: Pipeline, second: Pipeline, third: Pipeline
) -> None:
    cluster, claims = FakeCluster(), FakeClaims()
    assert synced(first, cluster, claims, prune=False)
    seen = survey(second, cluster, claims)
    shared = {Allowed("takeover", name) for name in first.topics.keys() & second.topics.keys()}
    assert {word for word in consent.missing(seen.plan, ()) if word.risk == "takeover"} == shared
    if not seen.plan.refused:
        carry_out(seen, cluster, claims)
        removed = survey(third, cluster, claims, prune=True).plan.of("delete")
        assert not {change.topic for change in removed} & second.topics.keys()


@settings(deadline=None)
@given(files(), files(), files())
def test_a_plan_holds_exactly_as_long_as_it_would_come_out_the_same(
    now: Pipeline, reviewed: Pipeline, other: Pipeline
) -> None:
    cluster, claims = FakeCluster(), FakeClaims()
    assert synced(now, cluster, claims, prune=False)
    then = survey(reviewed, cluster, claims).plan
    written = plan_file.as_json(then)
    plan_file.require_same(written, survey(reviewed, cluster, claims).plan)
    fresh = survey(other, cluster, claims).plan
    if (fresh.changes, fresh.topics) != (then.changes, then.topics):
        with pytest.raises(UsageError, match="stale"):
            plan_file.require_same(written, fresh)


# On the cluster every topology costs some requests: KPIPE_SYNC_LIVES=200 runs as many as against the imitation.
@pytest.mark.kafka
@settings(
    max_examples=int(os.environ.get("KPIPE_SYNC_LIVES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(files(), st.booleans()), min_size=1, max_size=3))
def test_the_same_on_kafka(kafka: str, life: list[tuple[Pipeline, bool]]) -> None:
    admin, claims = ClusterAdmin(client_properties(KafkaSettings(), "admin", kafka)), FakeClaims()
    with fresh_prefix(admin) as prefix:
        for file, prune in life:
            mine = named(file, prefix)
            if synced(mine, admin, claims, prune=prune):
                assert survey(mine, admin, claims, prune=prune).plan.is_empty
