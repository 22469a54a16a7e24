"""Which ids are taken, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.delivery.dedup import Dedup, first_of
from orchestrator.records import Record

T = 1_700_000_000_000


def test_a_copy_is_known_within_the_window_and_its_payload_too() -> None:
    dedup = Dedup(window=60_000)
    dedup.take("a", T, 1)
    assert dedup.look("a", T + 59_000, 1) == "copy"
    assert dedup.look("a", T - 59_000, 1) == "copy"
    assert dedup.look("a", T, 2) == "other-payload"
    assert dedup.look("b", T, 1) == "new"
    assert dedup.look("a", T + 91_000, 1) == "new"


def test_numbers_and_texts_are_different_ids() -> None:
    dedup = Dedup(window=60_000)
    dedup.take(1, T, 0)
    assert dedup.look("1", T, 0) == "new"
    assert dedup.look(1, T, 0) == "copy"


def test_one_time_far_ahead_does_not_make_the_others_forgotten() -> None:
    dedup = Dedup(window=60_000)
    dedup.take("a", T, 1)
    dedup.take("future", T * 10, 1)
    for second in range(0, 60, 5):
        dedup.take(f"n{second}", T + second * 1000, 1)
    assert dedup.look("a", T + 59_000, 1) == "copy"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 300_000)), max_size=80))
def test_within_the_window_nothing_is_forgotten_when_time_moves_on(events: list[tuple[int, int]]) -> None:
    dedup = Dedup(window=60_000)
    taken: dict[int, int] = {}
    for event_id, at in sorted(events, key=lambda e: e[1]):
        known = event_id in taken and at - taken[event_id] <= 60_000
        seen = dedup.look(event_id, T + at, 0)
        assert seen == "copy" if known else seen in ("new", "copy")
        if seen == "copy" and not known:
            assert at - taken[event_id] <= 90_000, "remembered a slice longer at most"
        dedup.take(event_id, T + at, 0)
        taken[event_id] = at


def test_memory_is_bounded_and_what_went_too_early_is_counted() -> None:
    dedup = Dedup(window=60_000, limit=1_000)
    for n in range(10_000):
        dedup.take(n, T + n * 6, 0)
    assert len(dedup) <= 1_000
    assert dedup.evicted > 0
    assert dedup.look(9_999, T + 60_000, 0) == "copy"


ids = st.text(max_size=3) | st.integers(0, 3) | st.just("\0" + "1") | st.just("1\0")
payloads = st.binary(max_size=2)


@given(st.lists(st.tuples(ids, st.integers(0, 90_000), payloads), max_size=30, unique_by=lambda e: (type(e[0]), e[0])))
def test_taking_many_at_once_is_taking_each(events: list[tuple[str | int, int, bytes]]) -> None:
    records = {
        event_id: Record("in", 0, n, T + at, None, payload, ()) for n, (event_id, at, payload) in enumerate(events)
    }
    at_once, one_by_one = Dedup(window=60_000), Dedup(window=60_000)
    at_once.take_all(records)
    for event_id, record in records.items():
        one_by_one.take(event_id, record.timestamp, hash(record.value))
    assert len(at_once) == len(one_by_one)
    for event_id in [*records, "other", 7]:
        first = first_of(event_id)
        for at in (0, 60_000, 150_000):
            for payload in (b"", b"a"):
                seen = at_once.look(event_id, T + at, hash(payload))
                assert seen == one_by_one.look(event_id, T + at, hash(payload))
                assert seen == "new" or any(first in table for table in at_once.tables())
        assert (event_id in records) == any(first in table for table in at_once.tables())


def test_the_bound_holds_for_many_at_once() -> None:
    dedup = Dedup(window=60_000, limit=1_000)
    for start in range(0, 10_000, 100):
        dedup.take_all({f"{n}": Record("in", 0, n, T + n * 6, None, b"", ()) for n in range(start, start + 100)})
    assert len(dedup) <= 1_000
    assert dedup.evicted > 0
    assert dedup.look("9999", T + 60_000, hash(b"")) == "copy"
