"""What regular expressions cost."""

from __future__ import annotations

import time

import pytest

from orchestrator.config.patterns import weight


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("", 0),
        ("abc", 3),
        ("a{5}b", 6),
        ("a{2,}", 2),
        ("a{,3}", 3),
        ("(ab){10}", 20),
        ("((a{10}){10}){10}", 1_000),
        (r"\{3}", 3),
        (r"\w{10}", 800),
        (r"\p{Lu}{2}", 160),
        (r"[a-z0-9]{4}", 4),
        (r"[\w.-]{2}", 162),
        ("a)(b", 2),
    ],
)
def test_repetition_multiplies(pattern: str, states: int) -> None:
    assert weight(pattern) == states


def test_there_is_a_largest_weight() -> None:
    assert weight("(" * 50 + "a" + "{1000})" * 50) == 10**9


@pytest.mark.parametrize("text", ["[", "[a", "[\\", "(a{9}", "\\p{", "(", "{1", "a{,"])
def test_it_is_linear(text: str) -> None:
    def seconds(count: int) -> float:
        began = time.process_time()
        weight(text * count)
        return time.process_time() - began

    assert seconds(80_000) < 20 * seconds(10_000) + 0.5, "quadratic time would be 64 times as long"
