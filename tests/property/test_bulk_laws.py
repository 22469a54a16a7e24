"""What is done for many events at once has the same effect as one after the other."""

from __future__ import annotations

from math import inf
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from orchestrator.delivery.lanes import Lane, Lanes
from orchestrator.delivery.offsets.frontier import Frontier
from orchestrator.delivery.pending import Pending
from orchestrator.records import Record

KEYS = st.one_of(st.none(), st.binary(min_size=1, max_size=1))
IDS = st.one_of(st.none(), st.integers(0, 20), st.text("ab", max_size=2))


def pendings(events: list[tuple[Any, Any]], start: int) -> list[Pending]:
    return [Pending(Record("t", 0, start + n, 0, key, b"{}", ()), event_id) for n, (key, event_id) in enumerate(events)]


def unknown(ids: list[Any], taken: set[Any]) -> int:
    """How many of these, from the first on, are not taken, and are no repetition."""
    for number, event_id in enumerate(ids):
        if event_id is not None and event_id in taken:
            return number
        taken.add(event_id)
    return len(ids)


def seen(lanes: Lanes, keys: list[Any]) -> list[Any]:
    """All that anybody can find out about these lanes."""

    def lane(found: Lane | None) -> Any:
        return found and (found.key, found.due, [(p.record.offset, p.event_id) for p in found.queue])

    by_id = {event_id: lane(lanes.lane_in_progress(event_id)) for event_id in lanes.ids}
    return [len(lanes), lanes.next_due(), [lane(lanes.get(key)) for key in keys], by_id]


@given(
    st.lists(st.tuples(KEYS, IDS), max_size=6),
    st.lists(st.tuples(KEYS, IDS), max_size=8),
    st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_lanes_that_begin_and_end_together(before: list[Any], events: list[Any], ends: list[bool]) -> None:
    together, each = Lanes(), Lanes()
    for lanes in (together, each):
        for pending in pendings(before, 0):
            lanes.block(pending.record.key, [pending], float(pending.record.offset))
    keys = [key for key, _ in events]
    free = together.free(keys)
    assert free == next((n for n, key in enumerate(keys) if each.get(key) is not None or key in keys[:n]), len(keys))
    count = unknown([event_id for _, event_id in events[:free]], set(together.ids))
    begun = together.begin(keys[:count], pendings(events[:count], 100))
    for pending in pendings(events[:count], 100):
        each.block(pending.record.key, [pending], inf)
    everywhere = [key for key, _ in [*before, *events]]
    assert seen(together, everywhere) == seen(each, everywhere)

    going = [lane for lane, ended in zip(begun, ends, strict=False) if ended]
    left = together.settle_heads(going)
    for lane in going:
        found = each.get(lane.key)
        assert found is not None
        each.settle_head(found)
    assert seen(together, everywhere) == seen(each, everywhere)
    assert left == [lane for lane in going if together.get(lane.key) is lane]


@given(
    st.sets(st.integers(0, 30)),
    st.lists(st.sets(st.integers(1, 5), min_size=1), max_size=4),
    st.lists(st.integers(0, 60)),
)
def test_offsets_that_are_held_and_released_together(first: set[int], runs: list[set[int]], ended: list[int]) -> None:
    together, each = Frontier(0), Frontier(0)
    for frontier in (together, each):
        for offset in sorted(first):
            frontier.hold(offset)
            frontier.advance(offset + 1)
    for steps in runs:
        offsets = [together.position + step for step in sorted(steps)]
        together.hold_next(offsets)
        for offset in offsets:
            each.hold(offset)
            each.advance(offset + 1)
    assert told(together) == told(each)
    together.release(*ended)
    for offset in ended:
        each.release(offset)
    assert told(together) == told(each)


def told(frontier: Frontier) -> tuple[Any, ...]:
    return frontier.position, frontier.held, frontier.committable, frontier.settled_above()
