"""What an exception stands for, and what follows from a failure."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from orchestrator.config.model import RetryPolicy
from orchestrator.delivery.outcome import Bury, Failed, Park, Verdict, classify, decide
from orchestrator.event import Reject, Retry, Unavailable

POLICY = RetryPolicy(attempts=3, backoff=1.0, max_backoff=10.0)


def raised(act: Callable[[], object]) -> BaseException:
    try:
        act()
    except BaseException as e:
        return e
    raise AssertionError("nothing was raised")


def hidden() -> None:
    try:
        raise ConnectionRefusedError("psp")
    except ConnectionRefusedError:
        raise ValueError("call failed") from None


def caused() -> None:
    try:
        raise TimeoutError
    except TimeoutError as e:
        raise RuntimeError("x") from e


def grouped() -> None:
    raise ExceptionGroup("tasks", [ValueError(), ExceptionGroup("inner", [ConnectionResetError()])])


def refused_by_httpx() -> None:
    httpx.get("http://127.0.0.1:1/", timeout=2)


def simply(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "verdict"),
    [
        (simply(ValueError()), "retry"),
        (simply(KeyboardInterrupt()), "retry"),
        (simply(Retry("later")), "retry"),
        (simply(Reject("never")), "reject"),
        (simply(Unavailable()), "unavailable"),
        (simply(ConnectionError()), "unavailable"),
        (simply(TimeoutError()), "unavailable"),
        (hidden, "unavailable"),
        (caused, "unavailable"),
        (grouped, "unavailable"),
        (refused_by_httpx, "unavailable"),
    ],
)
def test_what_an_exception_stands_for(act: Callable[[], None], verdict: Verdict) -> None:
    assert classify(raised(act)).verdict == verdict


def test_listed_classes_are_unavailable() -> None:
    assert classify(KeyError("x"), (LookupError,)).verdict == "unavailable"


@pytest.mark.parametrize(
    ("verdict", "attempts", "spared", "letter", "follows"),
    [
        ("retry", 1, False, False, Park(1.0, spend=True)),
        ("retry", 2, False, False, Park(2.0, spend=True)),
        ("retry", 3, False, False, Bury("exhausted")),
        ("timeout", 3, False, False, Bury("timeout")),
        ("timeout", 3, True, False, Park(1.0, spend=False)),
        ("reject", 1, False, False, Bury("rejected")),
        ("output", 1, False, False, Bury("output")),
        ("unavailable", 99, False, False, Park(1.0, spend=False)),
        ("retry", 3, False, True, Park(10.0, spend=False, stalled=True)),
        ("reject", 1, False, True, Park(10.0, spend=False, stalled=True)),
    ],
)
def test_what_follows(verdict: Verdict, attempts: int, spared: bool, letter: bool, follows: Park | Bury) -> None:
    failed = Failed(verdict, "x")
    assert decide(failed, attempts, 0, POLICY, is_letter=letter, chance=0.5, spared=spared) == follows


def test_what_is_away_is_not_asked_without_a_pause() -> None:
    decision = decide(Failed("unavailable", "x", after=0.0), 1, 0, POLICY, is_letter=False, chance=0.5)
    assert decision == Park(1.0, spend=False)
