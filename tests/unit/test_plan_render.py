"""How a plan is shown."""

from __future__ import annotations

import pytest

from orchestrator.provisioning.plan import plan
from orchestrator.provisioning.render import as_json, as_text, human
from orchestrator.records import ClusterState, TopicSpec, TopicState


def test_every_kind_of_line_and_the_totals() -> None:
    declared = [
        TopicSpec("orders", 3, 1, {"retention.ms": "604800000", "cleanup.policy": "delete"}),
        TopicSpec("payments", 6, 1, {"retention.ms": "86400000", "max.message.bytes": "1000000"}),
        TopicSpec("small", 1, 1),
        TopicSpec("secret", 1, 1),
    ]
    actual = ClusterState(
        {
            "payments": TopicState("payments", 3, 1, {"retention.ms": "-1"}, {}),
            "small": TopicState("small", 2, 1),
        },
        {"secret": "Topic authorization failed."},
    )
    assert as_text(plan(declared, actual)).splitlines() == [
        "+ orders    new                partitions 3, replication 1, cleanup.policy delete, retention.ms 7d",
        "~ payments  partitions         3 → 6  [keys move to other partitions: order is not kept across the change]",
        "~ payments  max.message.bytes  (default) → 1MB",
        "~ payments  retention.ms       unlimited → 1d  [can lose data]",
        "- small     partitions         2 → 1  [refused: Kafka cannot remove partitions]",
        "? secret    topic              not known: Topic authorization failed.",
        "",
        "Plan: 1 to create, 1 to grow, 1 to change, 1 refused.",
    ]


def test_a_new_topic_names_the_field_that_is_refused() -> None:
    text = as_text(plan([TopicSpec("t", 1, 1, {"min.insync.replicas": "2"})], ClusterState()))
    assert "[min.insync.replicas: refused: more than the topic has replicas" in text


def test_json_is_the_documented_shape() -> None:
    made = plan([TopicSpec("t", 6, 1)], ClusterState({"t": TopicState("t", 3, 1)}))
    assert as_json(made) == {
        "changes": [{"action": "grow", "topic": "t", "field": "partitions", "old": 3, "new": 6, "risk": "reorders"}]
    }


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("retention.ms", "604800000", "7d"),
        ("retention.ms", "-1", "unlimited"),
        ("retention.ms", "90000", "90s"),
        ("retention.ms", "0", "0ms"),
        ("retention.bytes", "-1", "unlimited"),
        ("local.retention.ms", "-2", "-2"),
        ("max.message.bytes", "1048576", "1MiB"),
        ("max.message.bytes", "1048588", "1048588B"),
        ("min.insync.replicas", "2", "2"),
        ("compression.type", "lz4", "lz4"),
        ("cleanup.policy", "", '""'),
        ("partitions", 3, "3"),
        ("retention.ms", None, "(default)"),
    ],
)
def test_values_in_the_units_of_the_file(field: str, value: int | str | None, shown: str) -> None:
    assert human(field, value) == shown
