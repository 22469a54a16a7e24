"""Events that are looked at together: those that are plainly good, up to the first that is not."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts import Undecodable, decode_json
from orchestrator.delivery.dedup import event_id_of, first_of
from orchestrator.records import Record
from orchestrator.worker.engine.lookahead import MOST_BYTES, MOST_EVENTS, Lookahead

DEEP = b"[" * 300 + b"]" * 300


def records(*values: bytes | None) -> list[Record]:
    return [Record("in", 0, offset, 0, None, value, ()) for offset, value in enumerate(values)]


def valid(value: Any) -> bool:
    if value == "lone":
        raise ValueError("a value that no JSON document has")
    return value != "wrong"


def plain(raw: bytes | None, seen: set[Any], taken: set[int], running: set[Any]) -> bool:
    """One at a time."""
    if raw is None:
        return False
    try:
        value = decode_json(raw)
        if not valid(value):
            return False
    except ValueError:
        return False
    event_id = event_id_of(value, "id")
    return event_id is None or not (event_id in seen or event_id in running or first_of(event_id) in taken)


events = st.sampled_from(
    [
        None,
        b"",
        b"{",
        b'"wrong"',
        b'"lone"',
        DEEP,
        b"5",
        b'"x"',
        b"[]",
        b"{}",
        b'{"id":null}',
        b'{"id":[]}',
        b'{"id":true}',
    ]
) | st.one_of(st.integers(0, 12), st.integers(0, 12).map(str)).map(lambda i: json.dumps({"id": i}).encode())


@given(st.lists(events, max_size=12))
def test_known_are_those_before_an_odd_one_and_never_an_odd_one(raws: list[bytes | None]) -> None:
    taken, running = {first_of(1), first_of("2")}, {3: None, "4": None}
    values, event_ids = Lookahead("id").known(records(*raws), valid, [dict.fromkeys(taken), {}], running)
    assert len(values) == len(event_ids) <= len(raws)
    seen: set[Any] = set()
    for raw, value, event_id in zip(raws, values, event_ids, strict=False):
        assert plain(raw, seen, taken, set(running))
        assert raw is not None and value == decode_json(raw) and event_id == event_id_of(value, "id")
        seen.add(event_id)
    if not values and raws:
        assert not plain(raws[0], set(), taken, set(running))


def test_without_deduplication_a_copy_is_as_good_as_any() -> None:
    values, event_ids = Lookahead(None).known(records(*[b'{"id":"a"}'] * 3), None, (), {})
    assert len(values) == 3 and set(event_ids) == {None}


def test_no_more_is_decoded_at_once_than_fits_into_memory() -> None:
    large = json.dumps("x" * (MOST_BYTES // 3)).encode()
    values, _ = Lookahead(None).known(records(*[large] * 8), None, (), {})
    assert len(values) == 2
    values, _ = Lookahead(None).known(records(json.dumps("x" * MOST_BYTES).encode()), None, (), {})
    assert len(values) == 1


def test_trouble_makes_it_look_at_one_and_its_absence_at_more_again() -> None:
    ahead, fresh = Lookahead(None), deque(records(*[b"1"] * 1_000))
    sizes = []
    for well in (True, True, False, True, *[True] * 8):
        sizes.append(len(ahead.take(fresh, 1_000)))
        ahead.went(well=well)
    assert sizes[:5] == [1, 2, 4, 1, 2] and sizes[-1] == MOST_EVENTS
    assert len(ahead.take(fresh, 3)) == 3
    assert ahead.take(deque(), 3) == []


def test_what_is_too_deep_is_odd() -> None:
    with pytest.raises(Undecodable):
        decode_json(DEEP)
    assert Lookahead(None).known(records(b"1", DEEP), None, (), {})[0] == [1]
