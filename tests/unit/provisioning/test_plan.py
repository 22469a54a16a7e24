"""The plan, row by row: what is declared, what is there, which changes follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.errors import UsageError
from orchestrator.provisioning.plan import Change, Plan, Unknown, plan, specs
from orchestrator.records import ClusterState, TopicSpec, TopicState
from tests.support.cluster import DEFAULTS

WEEK, DAY = "604800000", "86400000"


def declared(partitions: int = 3, replication: int = 1, **configs: str) -> TopicSpec:
    return TopicSpec("t", partitions, replication, {k.replace("_", "."): v for k, v in configs.items()})


def there(partitions: int = 3, replication: int = 1, **overrides: str) -> TopicState:
    return TopicState("t", partitions, replication, {k.replace("_", "."): v for k, v in overrides.items()}, DEFAULTS)


def changes(spec: TopicSpec, *topics: TopicState) -> list[tuple[Any, ...]]:
    made = plan([spec], ClusterState({topic.name: topic for topic in topics}))
    return [(c.action, c.field, c.old, c.new, c.risk) for c in made.changes]


ROWS: list[tuple[str, TopicSpec, TopicState, list[tuple[Any, ...]]]] = [
    ("as declared", declared(retention_ms=WEEK), there(retention_ms=WEEK), []),
    ("growth remaps keys", declared(6), there(3), [("grow", "partitions", 3, 6, "reorders")]),
    ("a shrink is refused", declared(2), there(3), [("shrink", "partitions", 3, 2, "refused")]),
    (
        "another replication factor is refused",
        declared(replication=3),
        there(replication=1),
        [("replication", "replication", 1, 3, "refused")],
    ),
    (
        "pinning a key to today's default is a change",
        declared(retention_ms=WEEK),
        there(),
        [("config", "retention.ms", None, WEEK, "safe")],
    ),
    (
        "less than the default in force can lose data",
        declared(retention_ms=DAY),
        there(),
        [("config", "retention.ms", None, DAY, "data-loss")],
    ),
    (
        "shorter retention can lose data",
        declared(retention_ms=DAY),
        there(retention_ms=WEEK),
        [("config", "retention.ms", WEEK, DAY, "data-loss")],
    ),
    (
        "longer retention is safe",
        declared(retention_ms=WEEK),
        there(retention_ms=DAY),
        [("config", "retention.ms", DAY, WEEK, "safe")],
    ),
    (
        "-1 is unlimited, not less",
        declared(retention_ms="-1"),
        there(retention_ms=WEEK),
        [("config", "retention.ms", WEEK, "-1", "safe")],
    ),
    (
        "from unlimited to a limit can lose data",
        declared(retention_bytes="1000"),
        there(retention_bytes="-1"),
        [("config", "retention.bytes", "-1", "1000", "data-loss")],
    ),
    (
        "zero is a value",
        declared(retention_ms="0"),
        there(retention_ms=WEEK),
        [("config", "retention.ms", WEEK, "0", "data-loss")],
    ),
    ("zero equals zero", declared(flush_ms="0"), there(flush_ms="0"), []),
    (
        "false is a value",
        declared(preallocate="false"),
        there(preallocate="true"),
        [("config", "preallocate", "true", "false", "safe")],
    ),
    ("booleans in any case", declared(preallocate="True"), there(preallocate="true"), []),
    ("numbers as numbers", declared(retention_ms="0604800000"), there(retention_ms=WEEK), []),
    (
        "decimals as decimals",
        declared(min_cleanable_dirty_ratio="0.50"),
        there(min_cleanable_dirty_ratio="0.5"),
        [],
    ),
    (
        "policies in any order",
        declared(cleanup_policy="delete, compact"),
        there(cleanup_policy="compact,delete"),
        [],
    ),
    (
        "compaction on top can lose data",
        declared(cleanup_policy="compact,delete"),
        there(cleanup_policy="delete"),
        [("config", "cleanup.policy", "delete", "compact,delete", "data-loss")],
    ),
    (
        "one policy less is safe",
        declared(cleanup_policy="compact"),
        there(cleanup_policy="compact,delete"),
        [("config", "cleanup.policy", "compact,delete", "compact", "safe")],
    ),
    (
        "unclean elections can lose data",
        declared(unclean_leader_election_enable="true"),
        there(),
        [("config", "unclean.leader.election.enable", None, "true", "data-loss")],
    ),
    (
        "fewer copies per write can lose data",
        declared(min_insync_replicas="1", replication=3),
        there(min_insync_replicas="2", replication=3),
        [("config", "min.insync.replicas", "2", "1", "data-loss")],
    ),
    (
        "more in-sync replicas than replicas is refused",
        declared(min_insync_replicas="2"),
        there(),
        [("config", "min.insync.replicas", None, "2", "refused")],
    ),
    (
        "also when it is so already: nothing can be written",
        declared(min_insync_replicas="2"),
        there(min_insync_replicas="2"),
        [("config", "min.insync.replicas", "2", "2", "refused")],
    ),
    ("an override that nobody declared stays", declared(), there(max_message_bytes="5"), []),
    ("an unknown key is text", declared(x_y="1"), there(x_y="01"), [("config", "x.y", "01", "1", "safe")]),
    ("text of the wrong type is the broker's to judge", declared(retention_ms="soon"), there(retention_ms="soon"), []),
]


@pytest.mark.parametrize(("spec", "state", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_changes(spec: TopicSpec, state: TopicState, expected: list[tuple[Any, ...]]) -> None:
    assert changes(spec, state) == expected


def test_a_new_topic_is_one_change_a_field() -> None:
    assert changes(declared(3, 1, retention_ms=WEEK)) == [
        ("create", "partitions", None, 3, "safe"),
        ("create", "replication", None, 1, "safe"),
        ("create", "retention.ms", None, WEEK, "safe"),
    ]


def test_a_new_topic_that_nothing_could_be_written_to_is_refused() -> None:
    assert changes(declared(min_insync_replicas="2"))[-1] == ("create", "min.insync.replicas", None, "2", "refused")


def test_a_risky_key_whose_value_in_force_is_not_known_is_not_called_safe() -> None:
    bare = TopicState("t", 3, 1, {}, {})
    assert changes(declared(retention_ms=WEEK), bare) == [("config", "retention.ms", None, WEEK, "data-loss")]


def test_a_topic_that_may_not_be_described_is_unknown_never_absent() -> None:
    made = plan([declared()], ClusterState(unknown={"t": "Topic authorization failed."}))
    assert made.is_empty
    assert made.unknown == (Unknown("t", "topic", "Topic authorization failed."),)
    assert made.hidden == made.unknown


def test_configs_that_may_not_be_read_are_unknown_and_partitions_still_compared() -> None:
    state = TopicState("t", 3, 1, None, {})
    made = plan([declared(6, retention_ms=DAY)], ClusterState({"t": state}))
    assert [(c.action, c.field) for c in made.changes] == [("grow", "partitions")]
    assert [(u.topic, u.what) for u in made.unknown] == [("t", "configs")]
    assert made.hidden == ()


def test_topics_that_nobody_declared_are_left_alone() -> None:
    other = TopicState("__consumer_offsets", 50, 1, {}, {})
    assert plan([], ClusterState({"__consumer_offsets": other})).is_empty


def test_a_refused_plan_says_so_and_what_to_do() -> None:
    made = plan([declared(2)], ClusterState({"t": there(3)}))
    with pytest.raises(UsageError, match="t: partitions 3 -> 2") as caught:
        made.raise_if_refused()
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_plan_without_refusals_passes() -> None:
    plan([declared(6)], ClusterState({"t": there(3)})).raise_if_refused()


def test_the_plan_alone_is_enough_to_create_its_topics() -> None:
    wanted = [TopicSpec("a", 3, 1, {"retention.ms": WEEK}), TopicSpec("b", 1, 2)]
    assert plan(wanted, ClusterState()).creates() == tuple(wanted)


def test_totals_count_topics_not_fields() -> None:
    wanted = [
        TopicSpec("new", 3, 1, {"retention.ms": WEEK}),
        TopicSpec("t", 6, 1, {"retention.ms": DAY, "max.message.bytes": "5"}),
        TopicSpec("small", 1, 1),
    ]
    made = plan(wanted, ClusterState({"t": there(3), "small": TopicState("small", 2, 1)}))
    assert made.totals() == {"create": 1, "grow": 1, "config": 1, "delete": 0, "refused": 1}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([Change("config", "t", "a", "1", "2"), Change("config", "t", "a", "1", "3")], "twice"),
        ([Change("create", "t", "partitions", None, 1), Change("grow", "t", "x", 1, 3)], "created and changed"),
        ([Change("config", "t", "a", "1", "1")], "no change"),
    ],
)
def test_an_inconsistent_plan_cannot_be_built(bad: list[Change], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Plan(tuple(bad))


def test_json_names_exactly_the_documented_fields() -> None:
    change = Change("grow", "t", "partitions", 3, 6, "reorders")
    assert change.as_json() == {
        "action": "grow",
        "topic": "t",
        "field": "partitions",
        "old": 3,
        "new": 6,
        "risk": "reorders",
    }


def test_specs_are_the_clusters_names_in_the_files_order_dlqs_included() -> None:
    topics = {
        name: Topic(name, f"dev.{name}", 3, 1, {"retention.ms": WEEK}, is_dlq=name.endswith("dlq"))
        for name in ("orders", "orders.dlq")
    }
    pipeline = Pipeline("p", "dev", Path(), KafkaSettings(), topics, {}, {})
    assert specs(pipeline) == (
        TopicSpec("dev.orders", 3, 1, {"retention.ms": WEEK}, keyed=False),
        TopicSpec("dev.orders.dlq", 3, 1, {"retention.ms": WEEK}, keyed=False),
    )
