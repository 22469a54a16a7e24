"""Risks are allowed by name, a reviewed plan is applied as it is or not at all, and a plan says whom it hits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import Handler, KafkaSettings, Pipeline, Topic
from orchestrator.errors import UsageError
from orchestrator.provisioning import consent, plan_file
from orchestrator.provisioning.consent import Allowed
from orchestrator.provisioning.impact import HandlerHit, asked_about
from orchestrator.provisioning.plan import specs
from orchestrator.provisioning.survey import Survey, survey
from orchestrator.records import CLAIMS_TOPIC, Claim, GroupUse, TopicState, TopicUse
from tests.support.cluster import DEFAULTS, FakeClaims, FakeCluster

DAY, WEEK = "86400000", "604800000"


def pipeline(partitions: int = 6, retention: str = DAY, key: str | None = "id") -> Pipeline:
    topics = {
        "orders": Topic("orders", "dev.orders", partitions, 1, {"retention.ms": retention}, key=key, dlq="dead"),
        "dead": Topic("dead", "dev.dead", partitions, 1, {}, is_dlq=True, dlq_for=("orders",)),
    }
    handlers = {
        "api": Handler("api", "service", "api", "", produces=("orders",)),
        "pay": Handler("pay", "python", "m:f", "dev.shop.pay", consumes=("orders",), replicas=5),
    }
    return Pipeline("shop", "dev", Path(), KafkaSettings(), topics, {}, handlers)


def cluster() -> FakeCluster:
    return FakeCluster(
        [
            TopicState("dev.orders", 3, 1, {"retention.ms": WEEK}, DEFAULTS, topic_id="a"),
            TopicState("dev.dead", 6, 1, {}, DEFAULTS, topic_id="b"),
        ]
    )


def seen(file: Pipeline | None = None, there: FakeCluster | None = None, *known: Claim, prune: bool = False) -> Survey:
    return survey(file or pipeline(), there or cluster(), FakeClaims(*known), prune=prune, now=lambda: 1e9)


BOTH = frozenset({Allowed("reorders", "dev.orders"), Allowed("data-loss", "dev.orders")})


def test_every_risk_is_named_with_the_command_that_allows_it() -> None:
    with pytest.raises(UsageError) as caught:
        consent.require(seen().plan, ())
    assert caught.value.exit_code == 2
    assert "dev.orders: partitions 3 -> 6: keys move" in caught.value.message
    assert "dev.orders: retention.ms 604800000 -> 86400000: records can be lost" in caught.value.message
    assert "--allow reorders=dev.orders --allow data-loss=dev.orders" in caught.value.hint


def test_one_allowed_risk_does_not_cover_the_other() -> None:
    assert consent.missing(seen().plan, {Allowed("reorders", "dev.orders")}) == (Allowed("data-loss", "dev.orders"),)
    consent.require(seen().plan, BOTH)


def test_a_topic_is_named_as_in_the_file_or_as_on_the_cluster() -> None:
    words = consent.parse(["reorders=orders", "data-loss=dev.orders"], pipeline())
    assert words == BOTH


@pytest.mark.parametrize("word", ["reorders", "reorders=", "=orders", "safe=orders", "refused=orders", "orders"])
def test_words_that_allow_nothing_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="RISK=TOPIC"):
        consent.parse([word], pipeline())


def test_growing_a_topic_without_keys_is_safe() -> None:
    assert [spec.keyed for spec in specs(pipeline())] == [True, True]
    made = seen(pipeline(retention=WEEK, key=None)).plan
    assert [(change.action, change.risk) for change in made.changes] == [("grow", "safe")]


def test_the_plan_says_whom_it_hits() -> None:
    there = cluster()
    there.uses["dev.orders"] = TopicUse((GroupUse("dev.shop.pay", True, 4),), 9)
    [hit] = seen(there=there).impact
    assert hit.handlers == (HandlerHit("pay", "consumes", 5, 2, 0), HandlerHit("api", "produces", 1, 0, 0))
    assert (hit.topic, hit.groups, hit.records) == ("dev.orders", (GroupUse("dev.shop.pay", True, 4),), 9)


def test_only_what_is_older_than_a_lower_retention_is_at_stake() -> None:
    class Asked(FakeCluster):
        def use(self, partitions: Any, kept_from: Any) -> dict[str, TopicUse]:
            self.kept = dict(kept_from)
            return super().use(partitions, kept_from)

    there = Asked(list(cluster().topics.values()))
    seen(pipeline(partitions=3), there)
    assert there.kept == {"dev.orders": 10**12 - int(DAY)}
    seen(there=there)
    assert there.kept == {}


OLD = Claim("dev.old", "dev.shop", "c", True, True)


@pytest.mark.parametrize(
    ("use", "risk"),
    [
        (TopicUse((), 5), "data-loss"),
        (TopicUse((GroupUse("g", False, 0),), 5), "data-loss"),
        (TopicUse((GroupUse("g", False, 1),), 5), "in-use"),
        (TopicUse((GroupUse("g", True, 0),), 5), "in-use"),
        (TopicUse(None, 5), "in-use"),
    ],
)
def test_removing_what_is_still_read_is_a_risk_of_its_own(use: TopicUse, risk: str) -> None:
    there = cluster()
    there.topics["dev.old"] = TopicState("dev.old", 1, 1, topic_id="c")
    there.uses["dev.old"] = use
    found = seen(pipeline(3, WEEK), there, OLD, prune=True)
    assert [change.risk for change in found.plan.of("delete")] == [risk]
    assert "dev.old" in asked_about(found.plan)


def test_an_unchanged_cluster_is_not_asked_who_reads_what() -> None:
    class Silent(FakeCluster):
        def use(self, partitions: Any, kept_from: Any) -> dict[str, TopicUse]:
            raise AssertionError("asked")

    there = Silent(list(cluster().topics.values()))
    there.topics["dev.orders"] = replace(there.topics["dev.orders"], partitions=6)
    assert seen(pipeline(6, WEEK), there).plan.is_empty


def test_kpipes_own_topic_cannot_be_declared() -> None:
    topic = Topic(CLAIMS_TOPIC, CLAIMS_TOPIC, 1, 1, {})
    with pytest.raises(UsageError, match="own"):
        survey(replace(pipeline(), topics={CLAIMS_TOPIC: topic}), cluster(), FakeClaims())


def written(folder: Path, found: Survey) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(plan_file.as_json(found.plan, found.impact)))
    return path


def test_a_reviewed_plan_is_accepted_while_nothing_moves(tmp_path: Path) -> None:
    plan_file.require_same(plan_file.read(written(tmp_path, seen())), seen().plan)


def test_lag_and_records_may_move(tmp_path: Path) -> None:
    there = cluster()
    there.uses["dev.orders"] = TopicUse((GroupUse("g", True, 99),), 9)
    plan_file.require_same(plan_file.read(written(tmp_path, seen())), seen(there=there).plan)


def moved(**more: Any) -> FakeCluster:
    there = cluster()
    there.topics["dev.orders"] = replace(there.topics["dev.orders"], **more)
    return there


def elsewhere() -> FakeCluster:
    there = cluster()
    there.id = "cluster-2"
    return there


@pytest.mark.parametrize(
    ("file", "there", "why"),
    [
        (pipeline(), moved(partitions=4), "changes: dev.orders no longer differs"),
        (pipeline(), moved(topic_id="x"), "topics: dev.orders came, went or was made again"),
        (pipeline(), moved(overrides={"retention.ms": "5"}), "changes: dev.orders"),
        (pipeline(), elsewhere(), "cluster_id: cluster-1 then, cluster-2 now"),
        (pipeline(9), cluster(), "changes: dev.dead, dev.orders"),
        (replace(pipeline(), name="till"), cluster(), "pipeline: dev.shop then, dev.till now"),
    ],
)
def test_a_plan_is_stale_once_anything_moved(tmp_path: Path, file: Pipeline, there: FakeCluster, why: str) -> None:
    plan = plan_file.read(written(tmp_path, seen()))
    with pytest.raises(UsageError, match="stale") as caught:
        plan_file.require_same(plan, seen(file, there).plan)
    assert why in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a plan"),
        ("[" * 100_000, "not a plan"),
        ("[]", "not a plan"),
        ('{"changes": []}', "not a plan"),
        ('{"changes": [], "hash": "x"}', "another version"),
        ('{"version": 1, "changes": [], "hash": "x"}', "was changed"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(UsageError, match=why):
        plan_file.read(tmp_path / "p")


def test_a_plan_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, seen())
    path.write_text(path.read_text().replace('"new": 6', '"new": 7'))
    with pytest.raises(UsageError, match="was changed after"):
        plan_file.read(path)


def test_a_plan_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        plan_file.read(tmp_path / "none")
