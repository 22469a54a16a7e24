"""Breaker and fuse as histories: what happened, and what must be admitted then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.model import BreakerPolicy, FusePolicy
from orchestrator.delivery.breaker import Breaker, Fuse

POLICY = BreakerPolicy(failures=3, wait=1.0, max_wait=4.0)
MIDDLE = 0.5  # a chance that leaves waits as they are


@pytest.mark.parametrize(
    ("history", "admitted"),
    [
        ("", "all"),
        ("ff", "all"),
        ("ffsff", "all"),
        ("fff", "none"),
        ("fff1", "one"),
        ("fff1s", "all"),
        ("fff1f", "none"),
        ("fff1f1", "none"),  # the second wait is twice as long
        ("fff1f2", "one"),
        ("fff1f2f4f4f4", "one"),  # and never longer than the longest
        ("fff1sff", "all"),
        ("fff1sfff1", "one"),  # a success forgets the earlier openings
    ],
)
def test_histories(history: str, admitted: str) -> None:
    """`f` fails, `s` succeeds, a digit waits so many seconds."""
    breaker, now = Breaker(POLICY), 100.0
    for step in history:
        if step == "f":
            breaker.failed("away", now, MIDDLE)
        elif step == "s":
            breaker.succeeded()
        else:
            now += int(step)
            breaker.admits(now)
    assert breaker.admits(now) == admitted


def test_what_the_other_side_asks_for_is_waited() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        breaker.failed("busy", 0.0, MIDDLE, after=60.0)
    assert breaker.admits(59.0) == "none"
    assert breaker.admits(60.0) == "one"


def test_switched_off_it_never_opens_by_failures() -> None:
    breaker = Breaker(None)
    for _ in range(100):
        breaker.failed("away", 0.0, MIDDLE)
    assert breaker.admits(0.0) == "all"


@pytest.mark.parametrize(
    ("ends", "blows"),
    [([0] * 100, False), ([1] * 4, False), ([1] * 5, True), ([1] * 5 + [0] * 6, False), ([0, 1] * 10, True)],
)
def test_fuse(ends: list[int], blows: bool) -> None:
    """1 is an event given up; more than half of the last ten is too many."""
    fuse = Fuse(FusePolicy(share=0.5, of=10))
    for end in ends:
        fuse.gave_up() if end else fuse.passed(1)
    assert fuse.blows() is blows


@given(st.lists(st.one_of(st.just(-1), st.integers(0, 30)), max_size=60), st.integers(2, 40))
def test_the_fuse_counts_exactly_the_last_events(history: list[int], of: int) -> None:
    """-1 is an event given up, n are n events that ended well, told at once."""
    fuse = Fuse(FusePolicy(share=0.5, of=of))
    ends: list[int] = []
    for step in history:
        if step < 0:
            fuse.gave_up()
            ends.append(1)
        else:
            fuse.passed(step)
            ends.extend([0] * step)
    assert fuse.blows() == (sum(ends[-of:]) + 1 > 0.5 * of)
