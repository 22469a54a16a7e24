"""What is held against an event whose process died or hung, and what follows."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from orchestrator.config.model import RetryPolicy
from orchestrator.delivery.offsets.checkpoint import LIMIT, MOST_STRIKES, Checkpoint, read_checkpoint
from orchestrator.delivery.outcome import Bury, Failed, Park
from orchestrator.delivery.strikes import WHOLE, Strikes, after_solo, thirds_of

POLICY = RetryPolicy(attempts=5, backoff=1.0, max_backoff=8.0)


def after(strikes: Strikes, failed: Failed, *, evidence: bool = True, is_letter: bool = False) -> object:
    return after_solo(strikes, failed, 0, 2, POLICY, evidence=evidence, is_letter=is_letter, chance=0.5)


def crash(signal: str) -> Failed:
    return Failed("crash", "", thirds=thirds_of(signal))


@pytest.mark.parametrize(
    ("signal", "thirds"), [("SIGSEGV", 3), ("SIGABRT", 3), ("", 3), ("SIGKILL", 1), ("SIGTERM", 0)]
)
def test_what_an_end_counts(signal: str, thirds: int) -> None:
    strikes, decision = after(Strikes(), crash(signal))  # type: ignore[misc]
    assert strikes == Strikes(thirds)
    assert isinstance(decision, Park) and not decision.spend


def test_the_second_crash_is_the_last() -> None:
    assert after(Strikes(WHOLE), crash("SIGSEGV")) == (Strikes(2 * WHOLE), Bury("crash"))


def test_six_kills_from_outside_are_needed() -> None:
    strikes = Strikes()
    for n in range(1, 7):
        strikes, decision = after(strikes, crash("SIGKILL"))  # type: ignore[misc]
        assert isinstance(decision, Bury) == (n == 6)


def test_a_hang_counts_only_while_others_end_well() -> None:
    hang = Failed("hang", "")
    assert after(Strikes(WHOLE), hang, evidence=False)[0] == Strikes(WHOLE)  # type: ignore[index]
    assert after(Strikes(WHOLE), hang) == (Strikes(2 * WHOLE), Bury("timeout"))


def test_a_letter_is_never_given_up() -> None:
    _, decision = after(Strikes(WHOLE), crash("SIGSEGV"), is_letter=True)  # type: ignore[misc]
    assert isinstance(decision, Park) and decision.stalled


def test_a_run_whose_end_nobody_saw_counts_a_third() -> None:
    assert Strikes(3, solo=True).found() == Strikes(4)
    assert Strikes(3).found() == Strikes(3)


offsets = st.integers(0, 10**12)
held = st.builds(Strikes, st.integers(0, 6), st.booleans())


@given(offsets, st.dictionaries(st.integers(0, 10**6), held, max_size=MOST_STRIKES))
def test_strikes_ride_in_the_commit(offset: int, strikes: dict[int, Strikes]) -> None:
    saved = Checkpoint(offset, strikes=tuple((offset + at, s) for at, s in sorted(strikes.items())))
    found = read_checkpoint(offset, saved.metadata())
    assert dict(found.strikes) == dict(saved.strikes)
    assert len(saved.metadata()) <= LIMIT


def test_of_too_many_those_with_the_most_against_them_ride() -> None:
    many = tuple((n, Strikes(3 if n % 5 == 0 else 0)) for n in range(100))
    found = dict(read_checkpoint(0, Checkpoint(0, strikes=many).metadata()).strikes)
    assert len(found) == MOST_STRIKES
    assert all(strikes.thirds == 3 for strikes in found.values())


def test_an_older_commit_has_none() -> None:
    assert read_checkpoint(7, '{"v":1,"s":"","n":[1,2,3]}') == Checkpoint(
        7, (), read_checkpoint(7, '{"v":1,"s":"","n":[1,2,3]}').tally
    )
