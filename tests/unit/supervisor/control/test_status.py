"""The answers of the control API: what goes over the socket comes back as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.supervisor.control.status import (
    HandlerStatus,
    PipelineStatus,
    ReplicaStatus,
    StopStatus,
    WrongStatus,
)

texts, numbers = st.text(max_size=8), st.integers(0, 9)
seconds = st.none() | st.floats(0, 1e6)
replicas = st.builds(ReplicaStatus, texts, st.none() | numbers, texts, st.none() | numbers, numbers, seconds)
handlers = st.builds(
    HandlerStatus, texts, texts, numbers, numbers, numbers, seconds, seconds, seconds, st.none() | numbers, seconds,
    st.none() | numbers, numbers, st.none() | texts, st.none() | st.dictionaries(texts, numbers, max_size=3),
    st.none() | texts, st.lists(replicas, max_size=3).map(tuple),
)  # fmt: skip
pipelines = st.builds(PipelineStatus, numbers, texts, texts, texts, texts, st.lists(handlers, max_size=3).map(tuple))


@given(pipelines)
def test_a_status_comes_back_as_it_was(status: PipelineStatus) -> None:
    assert PipelineStatus.from_json(json.loads(json.dumps(status.to_json()))) == status


@given(pipelines)
def test_a_newer_up_may_say_more(status: PipelineStatus) -> None:
    body = status.to_json() | {"new": 1}
    body["handlers"] = [handler | {"newer": 2} for handler in body["handlers"]]
    assert PipelineStatus.from_json(body) == status


def test_an_older_up_may_say_less() -> None:
    old = HandlerStatus("pay", "ready", 1, 1, 0)
    body = {
        name: value
        for name, value in old.to_json().items()
        if name in {"name", "state", "replicas", "ready", "restarts"}
    }
    assert HandlerStatus.from_json(body) == old
    assert replace(old, lag=3) != old


@pytest.mark.parametrize("body", [None, [], "ready", 3])
def test_what_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(WrongStatus, match="not a PipelineStatus"):
        PipelineStatus.from_json(body)


@pytest.mark.parametrize("handlers", [None, 5, {}])
def test_handlers_are_a_list(handlers: Any) -> None:
    body = PipelineStatus(1, "", "p", "", "running", ()).to_json() | {"handlers": handlers}
    with pytest.raises(WrongStatus, match="not a list of HandlerStatus"):
        PipelineStatus.from_json(body)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("name", 3), ("state", None), ("replicas", "x"), ("replicas", True), ("ready", 1.5), ("lag", "3"),
        ("up_seconds", "long"), ("accounting", {"in": "many"}), ("accounting", []), ("last_error", {}),
        ("instances", {}), ("instances", [3]), ("breaker", 1),
    ],
)  # fmt: skip
def test_a_member_of_another_type_is_refused(member: str, value: Any) -> None:
    body = HandlerStatus("pay", "ready", 1, 1, 0).to_json() | {member: value}
    with pytest.raises(WrongStatus):
        HandlerStatus.from_json(body)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(WrongStatus, match="a StopStatus without within"):
        StopStatus.from_json({"stopping": True})
