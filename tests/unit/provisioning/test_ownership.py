"""Whose topic is it: what may be removed, what is refused, and what is on record after a sync."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.provisioning.ownership import Claims, Done, updates
from orchestrator.provisioning.plan import Change, plan
from orchestrator.records import Claim, ClusterState, TopicSpec, TopicState

ME, YOU = "shop", "till"
T = TopicState("t", 3, 1, {"flush.ms": "5"}, {"retention.ms": "9"}, topic_id="id-1")
SPEC = TopicSpec("t", 3, 1, {"flush.ms": "5"})
MINE = Claim("t", ME, "id-1", True, True, ("flush.ms",))
YOURS = Claim("t", YOU, "id-1", True, True, ())


def claims(*known: Claim, why: str = "") -> Claims:
    return Claims(ME, {(claim.topic, claim.owner): claim for claim in known}, why)


def pruned(state: TopicState, *known: Claim, declared: tuple[TopicSpec, ...] = ()) -> list[str]:
    made = plan(declared, ClusterState({state.name: state}), claims(*known), prune=True)
    return [change.topic for change in made.of("delete")]


def test_what_this_pipeline_created_and_no_longer_declares_is_removed() -> None:
    made = plan([], ClusterState({"t": T}), claims(MINE), prune=True)
    assert made.changes == (Change("delete", "t", "partitions", 3, None, "data-loss"),)


def test_without_prune_it_is_only_named() -> None:
    made = plan([], ClusterState(), claims(MINE))
    assert made.is_empty
    assert made.left_over == ("t",)


@pytest.mark.parametrize(
    ("why", "claim"),
    [
        ("it was there before", MINE._replace(created=False)),
        ("it was deleted and made again by somebody", MINE._replace(topic_id="id-0")),
        ("another pipeline created it", YOURS),
    ],
)
def test_nothing_else_is_removed(why: str, claim: Claim) -> None:
    assert pruned(T, claim) == [], why


def test_what_another_pipeline_declares_meanwhile_is_not_removed() -> None:
    assert pruned(T, MINE, YOURS._replace(created=False)) == []
    assert pruned(T, MINE, YOURS._replace(declared=False)) == ["t"]


@pytest.mark.parametrize("name", ["__consumer_offsets", "_schemas"])
def test_names_with_an_underscore_are_never_removed(name: str) -> None:
    assert pruned(replace(T, name=name), MINE._replace(topic=name)) == []


def test_internal_topics_are_never_removed() -> None:
    assert pruned(replace(T, internal=True), MINE) == []


def test_what_is_declared_is_not_removed() -> None:
    assert pruned(T, MINE, declared=(SPEC,)) == []


def test_a_topic_to_remove_that_may_not_be_seen_is_unknown() -> None:
    made = plan([], ClusterState(unknown={"t": "forbidden"}), claims(MINE), prune=True)
    assert made.is_empty
    assert [u.topic for u in made.unknown] == ["t"]


def test_two_pipelines_that_declare_one_topic_are_a_conflict() -> None:
    made = plan([SPEC], ClusterState({"t": T}), claims(YOURS))
    assert made.changes == (Change("takeover", "t", "owner", YOU, ME, "takeover"),)


@pytest.mark.parametrize("claim", [YOURS._replace(declared=False), YOURS._replace(topic_id="id-0")])
def test_a_claim_that_was_let_go_or_is_of_another_topic_is_none(claim: Claim) -> None:
    assert plan([SPEC], ClusterState({"t": T}), claims(claim)).is_empty


def test_a_key_that_left_the_file_goes_back_to_the_default_if_it_was_set_by_this_pipeline() -> None:
    bare = TopicSpec("t", 3, 1)
    assert plan([bare], ClusterState({"t": T}), claims(MINE)).changes == (
        Change("config", "t", "flush.ms", "5", None, "safe"),
    )
    assert plan([bare], ClusterState({"t": T}), claims(MINE._replace(configs=()))).is_empty
    assert plan([bare], ClusterState({"t": replace(T, overrides={})}), claims(MINE)).is_empty


def test_going_back_to_a_default_that_keeps_less_is_no_safe_change() -> None:
    state = replace(T, overrides={"retention.ms": "10"})
    mine = MINE._replace(configs=("retention.ms",))
    risks = [
        plan([TopicSpec("t", 3, 1)], ClusterState({"t": replace(state, defaults=defaults)}), claims(mine))
        .changes[0]
        .risk
        for defaults in ({"retention.ms": "9"}, {"retention.ms": "11"}, {})
    ]
    assert risks == ["data-loss", "safe", "data-loss"]


NOTHING = Done()


def after(known: Claims, *declared: TopicSpec, done: Done = NOTHING) -> list[Claim | None]:
    return list(updates(known, declared, ClusterState({"t": T}), done).values())


def test_a_created_topic_is_claimed_as_such_and_a_found_one_is_not() -> None:
    assert after(claims(), SPEC, done=Done(created={"t"})) == [MINE]
    assert after(claims(), SPEC) == [MINE._replace(created=False)]


def test_a_second_sync_has_no_claim_to_write() -> None:
    assert after(claims(MINE), SPEC) == []


def test_a_topic_made_again_by_somebody_else_is_no_longer_ours_to_remove() -> None:
    assert after(claims(MINE._replace(topic_id="id-0")), SPEC) == [MINE._replace(created=False)]


def test_a_topic_that_left_the_file_stays_on_record_if_it_was_created() -> None:
    assert after(claims(MINE)) == [MINE._replace(declared=False)]
    assert after(claims(MINE._replace(created=False))) == [None]
    assert after(claims(MINE._replace(declared=False))) == []


def test_a_removed_topic_leaves_no_claim() -> None:
    assert after(claims(MINE), done=Done(removed={"t"})) == [None]


def test_taking_over_replaces_the_others_claim_and_keeps_who_may_remove_it() -> None:
    changed = updates(claims(YOURS), [SPEC], ClusterState({"t": T}), Done(taken_over={"t"}))
    assert changed == {("t", YOU): None, ("t", ME): MINE}


def test_a_topic_that_was_not_taken_over_is_not_claimed() -> None:
    assert after(claims(YOURS), SPEC) == []


def test_keys_are_owned_as_long_as_they_are_set() -> None:
    [claim] = after(claims(MINE._replace(configs=("flush.ms", "segment.ms"))), SPEC)
    assert claim is not None
    assert claim.configs == ("flush.ms",)


def test_claims_on_what_is_gone_or_was_made_again_are_void() -> None:
    known = claims(MINE)
    assert known.void([], ClusterState()) == ("t",)
    assert known.void([], ClusterState({"t": replace(T, topic_id="id-2")})) == ("t",)
    assert known.void([], ClusterState({"t": T})) == ()
    assert known.void([], ClusterState(unknown={"t": "forbidden"})) == ()
    assert known.void([SPEC], ClusterState()) == ()
