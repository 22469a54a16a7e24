"""How a plan is shown."""

from __future__ import annotations

import pytest

from orchestrator.provisioning.impact import HandlerHit, Impact
from orchestrator.provisioning.ownership import Claims
from orchestrator.provisioning.plan import Plan, plan
from orchestrator.provisioning.render import as_markdown, as_text, human
from orchestrator.records import Claim, ClusterState, GroupUse, TopicSpec, TopicState


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


GROWN = plan([TopicSpec("t", 6, 1)], ClusterState({"t": TopicState("t", 3, 1)}))
HIT = Impact(
    "t",
    (HandlerHit("pay", "consumes", 4, 1, 0), HandlerHit("api", "produces", 1, 0, 0)),
    (GroupUse("shop.pay", True, 1),),
    7,
)


def test_whom_it_hits_follows_the_changes() -> None:
    assert as_text(GROWN, [HIT]).splitlines()[2:] == [
        "t: 7 records at stake",
        "  handler pay consumes it with 4 replicas, idle 1 → 0",
        "  handler api produces it",
        "  group shop.pay: active, lag 1 record",
        "",
        "Plan: 0 to create, 1 to grow, 0 to change, 0 refused.",
    ]


def test_what_is_not_known_is_not_called_nothing() -> None:
    text = as_text(GROWN, [Impact("t", (), None, None)])
    assert "an unknown number of records" in text
    assert "consumer groups are not known" in text


def test_deletions_takeovers_and_defaults() -> None:
    claims = Claims(
        "me",
        {
            ("old", "me"): Claim("old", "me", "1", True, False),
            ("t", "you"): Claim("t", "you", "2", True, True),
            ("t", "me"): Claim("t", "me", "2", False, True, ("flush.ms",)),
        },
    )
    actual = ClusterState(
        {
            "old": TopicState("old", 3, 1, topic_id="1"),
            "t": TopicState("t", 1, 1, {"flush.ms": "5"}, topic_id="2"),
        }
    )
    assert as_text(plan([TopicSpec("t", 1, 1)], actual, claims, prune=True)).splitlines() == [
        "~ t    owner     you → me  [another pipeline declares this topic]",
        "~ t    flush.ms  5ms → (default)",
        "- old  topic     3 partitions → gone  [deleted with all its records]",
        "",
        "Plan: 0 to create, 0 to grow, 1 to change, 1 to delete, 1 to take over, 0 refused.",
    ]


def test_markdown_is_a_table_and_a_list() -> None:
    assert as_markdown(GROWN, [HIT]).splitlines() == [
        "| | topic | what | change |",
        "|---|---|---|---|",
        "| `~` | t | partitions | 3 → 6  [keys move to other partitions: order is not kept across the change] |",
        "",
        "- t: 7 records at stake",
        "  - handler pay consumes it with 4 replicas, idle 1 → 0",
        "  - handler api produces it",
        "  - group shop.pay: active, lag 1 record",
        "",
        "**Plan: 0 to create, 1 to grow, 0 to change, 0 refused.**",
    ]


def test_markdown_of_an_empty_plan_is_its_totals() -> None:
    assert as_markdown(Plan()) == "**Plan: 0 to create, 0 to grow, 0 to change, 0 refused.**"


def test_no_value_can_leave_its_cell() -> None:
    state = TopicState("t", 1, 1, {"x.y": "<b>|\n"}, {})
    shown = as_markdown(plan([TopicSpec("t", 1, 1, {"x.y": "1"})], ClusterState({"t": state})))
    assert "&lt;b>\\|  → 1" in shown


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
