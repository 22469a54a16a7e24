"""Whatever a handler raises or returns becomes an outcome: nothing of it may end the thread that runs handlers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import Handler, KafkaSettings, Pipeline, Topic
from orchestrator.contracts import Contract
from orchestrator.delivery.outcome import Failed, classify
from orchestrator.event import Emit, Retry, Unavailable
from orchestrator.records import Record
from orchestrator.worker.produce.outputs import Outputs

RECORD = Record("in", 0, 0, 0, b"k", b"{}", ())


@pytest.fixture
def outputs() -> Outputs:
    topic = Topic("out", "out", partitions=1, replication=1, configs={})
    handler = Handler(name="h", kind="python", target="x:y", group="g", consumes=(), produces=("out",))
    pipeline = Pipeline("p", "", Path(), KafkaSettings(), {"out": topic}, {}, {})
    return Outputs(pipeline, handler, {"out": Contract("out")})


class Bare(Retry):
    def __init__(self) -> None:
        pass


class Unequal(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("equality")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (2, 2.0),
        ("1.5", 1.5),
        (Decimal("0.1"), 0.1),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (timedelta(seconds=1), None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        (None, None),
    ],
)
def test_a_delay_that_is_no_number_leaves_it_to_the_policy(after: Any, seconds: float | None) -> None:
    assert classify(Retry("x", after=after)).after == seconds
    assert classify(Unavailable("x", after=after)).verdict == "unavailable"


def test_odd_exceptions_are_outcomes() -> None:
    assert classify(Bare()).verdict == "retry"
    chained = Unequal()
    chained.__cause__ = Unequal()
    chained.__cause__.__cause__ = chained
    assert classify(chained).verdict == "retry"


def odd(**more: Any) -> Callable[[], Emit]:
    return lambda: Emit("out", {}, **more)


@pytest.mark.parametrize(
    "emit",
    [
        lambda: Emit(["out"], {}),  # type: ignore[arg-type]
        odd(key=5),
        odd(headers={"a": 5}),
        odd(headers={5: "a"}),
        odd(headers={"a\0b": "c"}),
        odd(headers=[("a", "b", "c")]),
        odd(headers=[("a", 5)]),
        odd(headers={"\ud800": "b"}),
        odd(headers={"a": "\udc80"}),
        odd(headers="a:b"),
        odd(headers={b"a": "b"}),
        lambda: Emit("out", {"a": object()}),
        lambda: Emit("out", {"a": float("nan")}),
    ],
)
def test_odd_emits_are_refused(outputs: Outputs, emit: Callable[[], Emit]) -> None:
    answer = outputs.prepare([Emit("out", {}), emit()], RECORD)
    assert isinstance(answer, Failed) and answer.verdict == "output"


def test_headers_may_be_pairs(outputs: Outputs) -> None:
    answer = outputs.prepare([Emit("out", {}, headers=[("a", "1"), ("a", "2")])], RECORD)
    assert isinstance(answer, list) and answer[0].headers[:2] == (("a", b"1"), ("a", b"2"))


def test_a_good_emit_is_none_of_them(outputs: Outputs) -> None:
    answer = outputs.prepare([Emit("out", {"a": 1}, key="k", headers={"a": "b", "c": b"\xff"})], RECORD)
    assert isinstance(answer, list) and answer[0].headers[:2] == (("a", b"b"), ("c", b"\xff"))
