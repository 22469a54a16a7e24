"""Applying a plan: item by item, in chunks, through races, until every partition has a leader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.errors import BrokerError, UsageError, WaitTimeout
from orchestrator.provisioning.apply import (
    RECORDS_PER_REQUEST,
    ApplyResult,
    apply,
    chunks,
    look,
    verify,
)
from orchestrator.provisioning.execute import sync_for_up
from orchestrator.provisioning.plan import Change
from orchestrator.provisioning.visibility import await_gone, await_leaders
from orchestrator.records import ClusterState, Refusal, TopicPartition, TopicSpec, TopicState
from tests.support.cluster import FakeClaims, FakeCluster, state

NO = Refusal("INVALID_CONFIG", "Invalid value")


def spec(name: str, partitions: int = 3, **configs: str) -> TopicSpec:
    return TopicSpec(name, partitions, 1, {k.replace("_", "."): v for k, v in configs.items()})


def run(declared: list[TopicSpec], cluster: FakeCluster) -> ApplyResult:
    return apply(look(declared, cluster), declared, cluster, sleep=lambda _: None)


def failures(outcome: ApplyResult) -> list[tuple[str, str, str]]:
    return [(f.action, f.topic, f.refusal.code) for f in outcome.failed]


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_creates_grows_and_alters_in_one_request_each() -> None:
    cluster = FakeCluster([state(spec("old")), state(spec("old2"))])
    declared = [spec("new"), spec("new2"), spec("old", 6), spec("old2", retention_ms="1")]
    outcome = run(declared, cluster)
    assert outcome.failed == ()
    assert cluster.writes == [("create", ("new", "new2")), ("grow", ("old",)), ("alter", ("old2",))]
    assert look(declared, cluster).is_empty


def test_an_empty_plan_writes_nothing() -> None:
    cluster = FakeCluster([state(spec("t"))])
    assert run([spec("t")], cluster) == ApplyResult()
    assert cluster.writes == []


def test_a_refused_plan_writes_nothing_at_all() -> None:
    cluster = FakeCluster([state(spec("big", 9))])
    with pytest.raises(UsageError):
        run([spec("new"), spec("big", 3)], cluster)
    assert cluster.writes == []


def test_one_refused_item_does_not_keep_the_others_from_being_done() -> None:
    cluster = FakeCluster([state(spec("old"))], refuse={"bad": NO})
    outcome = run([spec("bad"), spec("good"), spec("old", 6)], cluster)
    assert failures(outcome) == [("create", "bad", "INVALID_CONFIG")]
    assert {change.topic for change in outcome.applied} == {"good", "old"}
    assert "Invalid value" in str(outcome.failed[0])
    assert cluster.topics["old"].partitions == 6


def test_losing_a_race_to_the_same_topic_is_no_failure() -> None:
    def rival(cluster: FakeCluster) -> None:
        cluster.topics.setdefault("t", state(spec("t", retention_ms="5")))

    declared = [spec("t", retention_ms="5"), spec("u")]
    cluster = FakeCluster(before=rival)
    outcome = run(declared, cluster)
    assert outcome.failed == ()
    assert look(declared, cluster).is_empty


def test_after_a_race_what_is_safe_is_done_and_the_rest_is_named() -> None:
    def rival(cluster: FakeCluster) -> None:
        cluster.topics.setdefault("t", state(spec("t", 1, retention_ms="5")))

    cluster = FakeCluster(before=rival)
    outcome = run([spec("t", 3, retention_ms="9")], cluster)
    assert failures(outcome) == [("grow", "t", "CHANGED_MEANWHILE")]
    assert cluster.topics["t"].overrides == {"retention.ms": "9"}
    assert cluster.topics["t"].partitions == 1


def test_a_rivals_topic_that_stays_invisible_is_a_failure() -> None:
    exists = Refusal("TOPIC_ALREADY_EXISTS", "Topic 't' already exists.")
    outcome = run([spec("t")], FakeCluster(refuse={"t": exists}))
    assert failures(outcome) == [("create", "t", "TOPIC_ALREADY_EXISTS")]


def test_chunks_hold_so_many_records_and_keep_the_order() -> None:
    topics = [spec(f"t{i}", 2_000, retention_ms="1") for i in range(7)]
    groups = list(chunks(topics))
    assert [topic for group in groups for topic in group] == topics
    assert all(sum(t.partitions + 2 for t in group) <= RECORDS_PER_REQUEST for group in groups)
    assert len(groups) == 4


def test_a_topic_larger_than_a_chunk_stands_alone() -> None:
    assert [len(group) for group in chunks([spec("a", 9_000), spec("b", 1)])] == [1, 1]


def test_growth_is_chunked_by_what_is_added() -> None:
    cluster = FakeCluster([state(spec(f"t{i}", 1)) for i in range(3)])
    run([spec(f"t{i}", 3_000) for i in range(3)], cluster)
    assert [what for what, _ in cluster.writes] == ["grow", "grow", "grow"]


class Electing(FakeCluster):
    """A topic that appears only later, then without leaders, then complete."""

    def describe(self, names: object) -> ClusterState:
        self.looks += 1
        if self.looks == 1:
            return ClusterState()
        return ClusterState({"t": TopicState("t", 3, 1, leaderless=max(0, 4 - self.looks))})


def test_waits_until_every_partition_has_a_leader() -> None:
    cluster, clock = Electing(), Clock()
    await_leaders([spec("t")], cluster, clock=clock, sleep=clock.sleep)
    assert cluster.looks == 4


class Slow(FakeCluster):
    """One more topic each second, for longer than anybody waits for one."""

    def __init__(self, clock: Clock, count: int) -> None:
        super().__init__([state(spec(f"t{number}")) for number in range(count)])
        self.clock = clock
        self.asked_for: list[int] = []

    def describe(self, names: Sequence[str]) -> ClusterState:
        self.asked_for.append(len(names))
        return super().describe([name for name in names if int(name[1:]) < self.clock.now])


def test_as_long_as_more_topics_come_it_waits_and_asks_about_the_others_only() -> None:
    clock, told = Clock(), list[tuple[int, int]]()
    cluster = Slow(clock, 20)
    declared = [spec(f"t{number}") for number in range(20)]
    seen = await_leaders(
        declared, cluster, deadline=2, clock=clock, sleep=clock.sleep, progress=lambda *now: told.append(now)
    )
    assert set(seen.topics) == set(cluster.topics)
    assert clock.now > 10
    assert cluster.asked_for == sorted(cluster.asked_for, reverse=True)
    assert cluster.asked_for[-1] == 1
    assert told[-1] == (19, 20)


def test_a_config_that_does_not_show_yet_is_waited_for() -> None:
    clock = Clock()
    change = Change("config", "t", "flush.ms", None, "5")
    for known, arrives in (("7", "5"), ("5", "5")):
        cluster = FakeCluster([state(spec("t", flush_ms=known))])
        with pytest.raises(WaitTimeout) if known != arrives else nullcontext():
            await_leaders([spec("t")], cluster, applied=[change], deadline=1, clock=clock, sleep=clock.sleep)


def test_a_deleted_topic_is_waited_for() -> None:
    clock, cluster = Clock(), FakeCluster([state(spec("t"))])
    with pytest.raises(WaitTimeout, match="still there: t"):
        await_gone(["t"], cluster, deadline=1, clock=clock, sleep=clock.sleep)
    await_gone(["u"], cluster, deadline=1, clock=clock, sleep=clock.sleep)
    await_gone([], cluster)


def test_partitions_that_were_just_added_are_waited_for() -> None:
    cluster, clock = FakeCluster([state(spec("t", 3))]), Clock()
    with pytest.raises(WaitTimeout):
        await_leaders([spec("t", 6)], cluster, deadline=1, clock=clock, sleep=clock.sleep)


def test_leaders_that_never_come_are_an_error_that_names_the_topics() -> None:
    clock = Clock()
    cluster = FakeCluster([TopicState("slow", 3, 1, leaderless=1), TopicState("fast", 3, 1)])
    with pytest.raises(WaitTimeout, match=r"after 5 s .*: slow$") as caught:
        await_leaders([spec("slow"), spec("fast")], cluster, deadline=5, clock=clock, sleep=clock.sleep)
    assert caught.value.exit_code == 124
    assert 5 <= clock.now < 6


def test_a_leader_that_does_not_lead_yet_is_waited_for() -> None:
    clock = Clock()
    cluster = FakeCluster([TopicState("t", 3, 1)])
    cluster.silent = {TopicPartition("t", 2)}
    with pytest.raises(WaitTimeout, match=r": t$"):
        await_leaders([spec("t")], cluster, deadline=1, clock=clock, sleep=clock.sleep)
    cluster.silent.clear()
    await_leaders([spec("t")], cluster, deadline=1, clock=clock, sleep=clock.sleep)


def pipeline(*names: str) -> Pipeline:
    topics = {name: Topic(name, name, 3, 1, {"retention.ms": "5"}) for name in names}
    return Pipeline("p", "", Path(), KafkaSettings(), topics, {}, {})


def test_up_applies_and_returns_the_plan() -> None:
    cluster = FakeCluster()
    applied = sync_for_up(pipeline("a", "b"), cluster, FakeClaims())
    assert applied.totals()["create"] == 2
    assert sync_for_up(pipeline("a", "b"), cluster, FakeClaims()).is_empty
    assert [what for what, _ in cluster.writes] == ["create"]


def test_up_refuses_a_refused_plan() -> None:
    with pytest.raises(UsageError, match="partitions 9 -> 3"):
        sync_for_up(pipeline("a"), FakeCluster([state(spec("a", 9))]), FakeClaims())


def test_up_writes_nothing_when_the_broker_would_refuse_a_part() -> None:
    cluster, claims = FakeCluster(refuse={"a": NO}), FakeClaims()
    with pytest.raises(UsageError, match="a: create: Invalid value"):
        sync_for_up(pipeline("a", "b"), cluster, claims)
    assert (cluster.writes, claims.writes) == ([], 0)


def test_up_names_what_the_broker_refused_in_the_end() -> None:
    cluster, claims = FakeCluster(late={"a": NO}), FakeClaims()
    with pytest.raises(BrokerError, match="a: create: Invalid value"):
        sync_for_up(pipeline("a", "b"), cluster, claims)
    assert set(cluster.topics) == {"b"}
    assert set(claims.all) == {("b", "p")}


def test_up_refuses_a_risk_and_names_the_command() -> None:
    cluster = FakeCluster([state(spec("a", 3, retention_ms="9"))])
    with pytest.raises(UsageError, match=r"a: retention.ms 9 -> 5: records can be lost") as caught:
        sync_for_up(pipeline("a"), cluster, FakeClaims())
    assert "kpipe topics sync --allow data-loss=a" in caught.value.hint
    assert cluster.writes == []


def test_up_says_when_claims_cannot_be_kept_and_goes_on() -> None:
    said: list[str] = []
    sync_for_up(pipeline("a"), FakeCluster(), FakeClaims(forbidden="not authorized"), said.append)
    assert said == ["topics: who owns them is not on record: not authorized"]


def test_verifying_asks_about_every_step_and_changes_nothing() -> None:
    cluster = FakeCluster([state(spec("old")), state(spec("old2"))], refuse={"old": NO})
    wanted = look([spec("new"), spec("old", 6), spec("old2", retention_ms="1")], cluster)
    assert [(f.action, f.topic) for f in verify(wanted, cluster)] == [("grow", "old")]
    assert cluster.asked == [("create", ("new",)), ("grow", ("old",)), ("alter", ("old2",))]
    assert cluster.writes == []


def test_a_topic_that_came_meanwhile_does_not_fail_the_verification() -> None:
    cluster = FakeCluster(refuse={"t": Refusal("TOPIC_ALREADY_EXISTS", "exists")})
    assert verify(look([spec("t")], cluster), cluster) == ()


def test_config_changes_are_chunked_and_progress_is_told() -> None:
    cluster = FakeCluster([state(spec(f"t{i}", 1)) for i in range(4_000)])
    declared = [spec(f"t{i}", 1, flush_ms="1", segment_ms="2") for i in range(4_000)]
    told: list[tuple[str, int, int]] = []
    apply(look(declared, cluster), declared, cluster, progress=lambda *told_: told.append(told_))
    assert [what for what, _ in cluster.writes] == ["alter", "alter", "alter"]
    assert told[0] == ("config", 0, 4_000)
    assert told[-1] == ("config", 4_000, 4_000)


def test_up_does_not_go_on_with_a_topic_it_may_not_see() -> None:
    cluster = FakeCluster(unknown={"a": "not authorized"})
    with pytest.raises(BrokerError, match="not authorized"):
        sync_for_up(pipeline("a", "b"), cluster, FakeClaims())
    assert cluster.writes == []


def test_up_goes_on_where_only_configs_are_hidden() -> None:
    applied = sync_for_up(pipeline("a"), FakeCluster([TopicState("a", 3, 1, None)]), FakeClaims())
    assert [(u.topic, u.what) for u in applied.unknown] == [("a", "configs")]
