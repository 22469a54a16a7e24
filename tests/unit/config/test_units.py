"""Durations and sizes."""

from __future__ import annotations

import math

import pytest

from orchestrator.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("30s", 30), ("10m", 600), ("6h", 21600), ("7d", 604800), ("0s", 0), ("unlimited", math.inf)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512KB", 512_000), ("1MB", 10**6), ("2GiB", 2 * 2**30), ("1KiB", 1024), ("3TB", 3 * 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "30", "s", "1.5s", "-1s", "30 s", "30S", "1h30m", "٣s", "30s\n", "Unlimited"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        units.milliseconds(text)


@pytest.mark.parametrize("text", ["", "1", "1kb", "1K", "1 MB", "unlimited", "1MiB "])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        units.size(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1ms"),
        (1500, "1500ms"),
        (60_000, "1m"),
        (90_000, "90s"),
        (86_400_000, "1d"),
        (0, "0ms"),
        (None, "unlimited"),
    ],
)
def test_durations_are_shown_short_and_exact(value: int | None, text: str) -> None:
    assert units.show_duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1B"), (1_000_000, "1MB"), (1_048_576, "1MiB"), (1_112_588, "1112588B")]
)
def test_sizes_are_shown_short_and_exact(value: int, text: str) -> None:
    assert units.show_size(value) == text
