"""Where an epoch starts: the rules of `delivery/offsets/start.py`, one by one, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.delivery.offsets.checkpoint import LIMIT, MOST_BIRTH_TOPICS, Birth, Checkpoint, read_checkpoint
from orchestrator.delivery.offsets.start import (
    BIRTH_SECONDS,
    Group,
    Log,
    StartReason,
    birth_of,
    cut,
    name_hash,
    remade,
    start_from,
    start_without_commit,
)
from orchestrator.delivery.strikes import Strikes
from orchestrator.delivery.tally import Tally
from orchestrator.records import TopicPartition

TP = TopicPartition("in", 1)
LOG = Log(TP, 10, 50, "new")
SOME = Checkpoint(20, ((25, 30), (40, 45)), Tally(12, 3, 1), ((20, Strikes(1)),), "new", 4)


def test_a_commit_of_the_same_topic_holds() -> None:
    assert start_from(SOME, LOG) == (SOME, None)


def test_a_commit_without_an_id_is_given_the_topics() -> None:
    assert start_from(replace(SOME, topic_id=""), LOG) == (SOME, None)


def test_an_id_that_is_not_known_now_stays() -> None:
    assert start_from(SOME, replace(LOG, topic_id="")) == (SOME, None)


def test_of_a_topic_made_anew_only_the_accounting_holds() -> None:
    start = start_from(replace(SOME, topic_id="old"), LOG)
    assert start.checkpoint == Checkpoint(10, (), Tally(12, 3, 1), (), "new")
    assert start.jump == (StartReason.REMADE, 20, 10, 10, 50)


def test_what_retention_removed_is_passed_over_and_the_settled_ranges_stay() -> None:
    start = start_from(SOME, replace(LOG, low=27))
    assert start.checkpoint.offset == 27 and start.checkpoint.settled == SOME.settled
    assert start.jump == (StartReason.REMOVED, 20, 27, 27, 50)


def test_beyond_the_end_it_goes_on_where_the_log_parted() -> None:
    start = start_from(replace(SOME, offset=60), LOG, 33)
    assert (start.checkpoint.offset, start.jump) == (33, (StartReason.TRUNCATED, 60, 33, 10, 50))


def test_beyond_the_end_it_goes_on_at_the_end_where_that_is_not_known() -> None:
    start = start_from(replace(SOME, offset=60), LOG)
    assert (start.checkpoint.offset, start.jump) == (50, (StartReason.TRUNCATED, 60, 50, 10, 50))


def test_somebody_elses_offset_beyond_the_end_is_called_that() -> None:
    start = start_from(Checkpoint(60), LOG)
    assert start.jump is not None and start.jump.cause is StartReason.BEYOND and start.checkpoint.offset == 50


def test_a_log_that_parted_and_grew_again_goes_on_where_it_parted() -> None:
    start = start_from(replace(SOME, offset=45), LOG, 33)
    assert start.checkpoint == Checkpoint(33, ((25, 30),), Tally(12, 3, 1), ((20, Strikes(1)),), "new", 4)


def test_without_a_commit_from_decides_for_a_new_group() -> None:
    assert start_without_commit(LOG) == (Checkpoint(10, topic_id="new"), None)
    assert start_without_commit(LOG, latest=Group()) == (Checkpoint(50, topic_id="new"), None)


def test_what_appears_once_the_group_has_commits_starts_at_its_beginning() -> None:
    birth = birth_of({"in": 1, "other": 9}, 1000.0)
    for births in ([], [birth]):
        start = start_without_commit(LOG, latest=Group(5, births), now=1001.0)
        assert start == (Checkpoint(10, topic_id="new"), None)


def test_a_second_member_of_a_new_group_is_not_late() -> None:
    group = Group(5, [birth_of({"in": 2}, 1000.0)])
    assert start_without_commit(LOG, latest=group, now=1010.0).checkpoint.offset == 50


def test_a_commit_that_has_expired_is_told_and_loses_nothing() -> None:
    group = Group(5, [birth_of({"in": 2}, 1000.0)])
    start = start_without_commit(LOG, latest=group, now=1000.0 + BIRTH_SECONDS)
    assert (start.checkpoint.offset, start.jump) == (10, (StartReason.EXPIRED, None, 10, 10, 50))


def test_a_topic_made_anew_starts_at_its_beginning_whatever_from_says() -> None:
    start = start_without_commit(replace(LOG, former_id="old"), latest=Group())
    assert (start.checkpoint.offset, start.jump) == (10, (StartReason.REMADE, None, 10, 10, 50))


def test_a_topic_made_anew_is_none_of_those_that_the_group_began_with() -> None:
    former = replace(SOME, birth=birth_of({"in": 3, "other": 2}, 7.0))
    assert remade(former, "in", "new", 10).birth == birth_of({"other": 2}, 7.0)


OFFSETS = st.integers(0, 100)
RANGES = st.lists(st.integers(0, 100), max_size=8, unique=True).map(
    lambda numbers: tuple(zip(sorted(numbers)[::2], sorted(numbers)[1::2], strict=False))
)


@given(OFFSETS, RANGES, OFFSETS, OFFSETS, st.sampled_from(["", "a", "b"]), st.none() | OFFSETS)
def test_no_start_is_outside_of_the_log_or_passes_what_is_not_settled(
    offset: int, settled: tuple[tuple[int, int], ...], low: int, size: int, topic_id: str, parting: int | None
) -> None:
    committed = Checkpoint(offset, tuple(r for r in settled if r[0] > offset), topic_id="a")
    log = Log(TP, low, low + size, topic_id)
    start = start_from(committed, log, parting)
    at = start.checkpoint.offset
    assert log.low <= at <= log.high
    if start.jump is None:
        assert start.checkpoint == replace(committed, topic_id=topic_id or "a")
    else:
        assert start.jump.cause is StartReason.REMADE or at != offset
    # It moves forward only past what does not exist any more.
    assert at <= offset or at == low


@given(OFFSETS, RANGES, OFFSETS)
def test_a_cut_checkpoint_says_nothing_about_what_is_beyond(
    offset: int, settled: tuple[tuple[int, int], ...], end: int
) -> None:
    kept = cut(Checkpoint(offset, settled, strikes=((offset, Strikes(1)),)), end)
    assert kept.offset <= end and all(last <= end for _, last in kept.settled)
    assert all(at < end for at, _ in kept.strikes)


NAMES = st.text(min_size=1, max_size=5)


@given(
    st.text("abcdefghijk-_", max_size=22), st.integers(0, 2**33),
    st.dictionaries(NAMES, st.integers(1, 100_000), max_size=2 * MOST_BIRTH_TOPICS), RANGES,
)  # fmt: skip
def test_id_and_birth_survive_in_the_metadata(
    topic_id: str, at: int, topics: dict[str, int], settled: tuple[tuple[int, int], ...]
) -> None:
    birth = birth_of(topics, at)
    saved = Checkpoint(0, tuple(r for r in settled if r[0] > 0), Tally(1, 2, 3), (), topic_id, birth=birth)
    metadata = saved.metadata()
    assert len(metadata) <= LIMIT
    read = read_checkpoint(0, metadata)
    assert (read.topic_id, read.tally) == (topic_id, saved.tally)
    assert read.birth is not None and read.birth.at == at
    kept = dict(sorted(birth.partitions.items())[:MOST_BIRTH_TOPICS])
    assert read.birth.partitions == kept


@pytest.mark.parametrize("birth", ["!", "gA==", "AQE=", 7, ["x"]])
def test_a_birth_that_cannot_be_read_never_raises(birth: object) -> None:
    import json

    assert read_checkpoint(5, json.dumps({"v": 1, "s": "", "n": [0, 0, 0], "b": birth})).offset == 5


def test_older_metadata_has_neither() -> None:
    assert read_checkpoint(5, '{"v":1,"s":"","n":[1,2,3]}') == Checkpoint(5, (), Tally(1, 2, 3))
    assert Birth(1).without(name_hash("x")) == Birth(1)
