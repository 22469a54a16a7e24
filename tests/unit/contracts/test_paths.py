"""Paths are written as people write them, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts.paths import json_path, parse_path


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), "$"),
        (("items", 0, "sku"), "$.items[0].sku"),
        (("a b",), '$["a b"]'),
        (("a.b", 'say "hi"'), '$["a.b"]["say \\"hi\\""]'),
        (("größe",), "$.größe"),
        (("line\nbreak",), '$["line\\nbreak"]'),
        (("",), '$[""]'),
    ],
)
def test_written(steps: tuple[str | int, ...], text: str) -> None:
    assert json_path(steps) == text


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("$.a.b", ("a", "b")),
        ("items[0].sku", ("items", 0, "sku")),
        ("[2]", (2,)),
        ('a["b c"]', ("a", "b c")),
        ("a-b.c d", ("a-b", "c d")),
    ],
)
def test_read(text: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(text) == steps


@pytest.mark.parametrize("text", ["", "$", ".", "a.", "a..b", "a[", "a[x]", "a[-1]", 'a["b]', "a]", "a[0]b"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a path|names no field"):
        parse_path(text)


@given(st.lists(st.integers(0, 10**8) | st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_what_is_written_is_read_back(steps: list[str | int]) -> None:
    assert parse_path(json_path(steps)) == tuple(steps)


@given(st.text())
def test_reading_never_crashes(text: str) -> None:
    try:
        parse_path(text)
    except ValueError:
        return
