"""What `kpipe send` builds: the example, fresh fields, then the user's words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.model import EventTemplate
from orchestrator.contracts.examples import (
    Assignment,
    assign,
    build_example,
    load_example,
    merge_patch,
    parse_assignment,
)
from orchestrator.errors import UsageError

EXAMPLE = {"eventId": "old", "customer": {"name": "Ada", "id": "old"}, "items": ["laptop"], "at": "old"}
GENERATE = {"eventId": "uuid", "customer.id": "uuid", "at": "now"}


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


def build(patches: tuple[Any, ...] = (), assignments: tuple[Assignment, ...] = ()) -> Any:
    return build_example(EXAMPLE, GENERATE, patches, assignments, new_id=ids(), now=lambda: "now")


def test_generated_fields_are_fresh_and_differ() -> None:
    assert build() == {"eventId": "id-1", "customer": {"name": "Ada", "id": "id-2"}, "items": ["laptop"], "at": "now"}


def test_the_user_wins_over_generated_fields() -> None:
    built = build(({"eventId": "mine"},), (parse_assignment("customer.id=7"),))
    assert built["eventId"] == "mine"
    assert built["customer"] == {"name": "Ada", "id": 7}


def test_set_wins_over_json() -> None:
    assert build(({"at": 1},), (parse_assignment("at=2"),))["at"] == 2


def test_the_example_is_not_changed() -> None:
    before = copy.deepcopy(EXAMPLE)
    build(({"customer": {"name": None}},), (parse_assignment("items[0]=x"),))
    assert before == EXAMPLE


def test_a_patch_that_is_no_object_replaces_everything() -> None:
    assert build((["anything"],)) == ["anything"]
    assert build_example([1], GENERATE, new_id=ids(), now=lambda: "now") == [1]


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("amount=99.99", ("amount",), 99.99),
        ("a.b=1", ("a", "b"), 1),
        ("note=some text", ("note",), "some text"),
        ('note="1"', ("note",), "1"),
        ("note=", ("note",), ""),
        ("gone=null", ("gone",), None),
        ("ok=true", ("ok",), True),
        ('items=["a"]', ("items",), ["a"]),
        ("items[0]=x", ("items", 0), "x"),
        ("q=a=b", ("q",), "a=b"),
        ("n=NaN", ("n",), "NaN"),
    ],
)
def test_assignments(text: str, path: tuple[str | int, ...], value: Any) -> None:
    assert parse_assignment(text) == Assignment(path, value)


@pytest.mark.parametrize("text", ["amount", "=1", "a..b=1", "a[=1", " =1"])
def test_wrong_assignments_say_how_it_is_written(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_assignment(text)
    assert text in caught.value.message
    assert "--set" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "path", "result"),
    [
        ({}, ("a", "b"), {"a": {"b": 1}}),
        ({"a": 5}, ("a", "b"), {"a": {"b": 1}}),
        ({"a": [7]}, ("a", 0), {"a": [1]}),
        ({"a": [7]}, ("a", 1), {"a": [7, 1]}),
        ({}, ("a", 0, "b"), {"a": [{"b": 1}]}),
    ],
)
def test_assign(value: Any, path: tuple[str | int, ...], result: Any) -> None:
    assert assign(value, path, 1) == result


@pytest.mark.parametrize(("value", "path"), [({"a": [7]}, ("a", 2)), ({"a": [7]}, ("a", "b"))])
def test_assign_refuses_what_cannot_be(value: Any, path: tuple[str | int, ...]) -> None:
    with pytest.raises(UsageError):
        assign(value, path, 1)


json_objects = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_objects, json_objects)
def test_merging_twice_is_merging_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def test_an_example_file(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"a": 1}')
    assert load_example(EventTemplate("order", "orders", Path("order.json")), tmp_path) == {"a": 1}
    assert load_example(EventTemplate("order", "orders"), tmp_path) == {}


@pytest.mark.parametrize(("content", "said"), [("{", "not JSON"), (None, "cannot be read")])
def test_a_wrong_example_file(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "order.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        load_example(EventTemplate("order", "orders", Path("order.json")), tmp_path)
