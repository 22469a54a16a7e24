"""Whatever is declared and whatever is there: after applying, there is nothing left to plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.provisioning.apply import apply, look
from orchestrator.records import TopicSpec, TopicState
from tests.support.cluster import DEFAULTS, FakeCluster

NAMES = st.sampled_from([f"topic.{i}" for i in range(6)])
VALUES = {
    "retention.ms": st.sampled_from(["-1", "0", "1", "604800000", "0604800000"]),
    "retention.bytes": st.sampled_from(["-1", "1000"]),
    "cleanup.policy": st.sampled_from(["delete", "compact", "compact,delete", "delete,compact"]),
    "min.insync.replicas": st.sampled_from(["1", "2"]),
    "unclean.leader.election.enable": st.sampled_from(["true", "false", "TRUE"]),
    "compression.type": st.sampled_from(["producer", "lz4"]),
}
CONFIGS = st.fixed_dictionaries({}, optional=VALUES)
PARTITIONS = st.integers(1, 4)
REPLICATION = st.integers(1, 2)


@st.composite
def topologies(draw: st.DrawFn) -> list[TopicSpec]:
    names = draw(st.lists(NAMES, unique=True))
    return [TopicSpec(name, draw(PARTITIONS), draw(REPLICATION), draw(CONFIGS)) for name in names]


@st.composite
def clusters(draw: st.DrawFn) -> FakeCluster:
    names = draw(st.lists(NAMES, unique=True))
    return FakeCluster(
        [TopicState(name, draw(PARTITIONS), draw(REPLICATION), draw(CONFIGS), DEFAULTS) for name in names]
    )


@given(topologies(), clusters())
def test_planning_after_applying_is_empty_or_nothing_was_written(
    declared: list[TopicSpec], cluster: FakeCluster
) -> None:
    before = dict(cluster.topics)
    wanted = look(declared, cluster)
    if wanted.refused:
        with pytest.raises(UsageError):
            apply(wanted, declared, cluster)
        assert cluster.writes == []
        assert cluster.topics == before
        return
    outcome = apply(wanted, declared, cluster)
    assert outcome.failed == ()
    assert outcome.applied == wanted.changes
    assert look(declared, cluster).is_empty


@given(topologies(), clusters())
def test_what_is_not_declared_is_never_touched(declared: list[TopicSpec], cluster: FakeCluster) -> None:
    before = dict(cluster.topics)
    wanted = look(declared, cluster)
    if not wanted.refused:
        apply(wanted, declared, cluster)
    names = {spec.name for spec in declared}
    assert {n: t for n, t in cluster.topics.items() if n not in names} == {
        n: t for n, t in before.items() if n not in names
    }
    keys = {spec.name: set(spec.configs) for spec in declared}
    for name, old in before.items():
        kept = {k: v for k, v in (old.overrides or {}).items() if k not in keys.get(name, ())}
        assert kept.items() <= (cluster.topics[name].overrides or {}).items()


@given(topologies(), clusters())
def test_a_refusal_is_a_shrink_a_replication_or_an_unreachable_isr(
    declared: list[TopicSpec], cluster: FakeCluster
) -> None:
    for change in look(declared, cluster).refused:
        assert change.field in {"partitions", "replication", "min.insync.replicas"}
        if change.field == "partitions":
            assert int(change.new) < int(change.old or 0)
