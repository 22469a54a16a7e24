"""Events a second, from the counts that workers report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.supervisor.rates import STALE, WINDOW, Rate, Rates


def counts(received: int, flying: int = 0) -> dict[str, int]:
    return {"in": received, "done": received - flying, "dead_lettered": 0, "skipped": 0, "in_flight": flying}


def test_what_came_in_and_what_was_settled() -> None:
    rates = Rates()
    rates.saw(0, counts(100))
    assert rates.now(0) is None, "one look is no rate"
    rates.saw(2, counts(120, flying=10))
    assert rates.now(2) == Rate(10, 5)


def test_only_the_last_seconds_count() -> None:
    rates = Rates()
    for second in range(100):
        rates.saw(second, counts(min(second, 50) * 7))
    assert rates.now(99) == Rate(0, 0)
    rates.saw(100, counts(350 + 70))
    assert rates.now(100) == Rate(pytest.approx(70 / WINDOW), pytest.approx(70 / WINDOW))


def test_a_silent_worker_has_no_rate() -> None:
    rates = Rates()
    rates.saw(0, counts(0))
    rates.saw(1, counts(9))
    assert rates.now(1 + STALE) == Rate(9, 9)
    assert rates.now(1.1 + STALE) is None


def test_partitions_that_move_are_no_events() -> None:
    rates = Rates()
    rates.saw(0, counts(0))
    rates.begin()
    rates.saw(1, counts(1_000_000))
    assert rates.now(1) is None
    rates.saw(2, counts(1_000_003))
    assert rates.now(2) == Rate(3, 3)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30))
def test_a_rate_is_never_negative(seen: list[tuple[float, int, int]]) -> None:
    rates, now = Rates(), 0.0
    for wait, received, flying in seen:
        now += wait
        rates.saw(now, counts(received, flying))
        rate = rates.now(now)
        assert rate is None or (rate.received >= 0 and rate.settled >= 0)
