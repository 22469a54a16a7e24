"""Durations and sizes: `100ms 30s 10m 6h 7d unlimited`, `512KB 1MB 2GiB`.

Values are whole numbers with a unit: a bare number would leave open which one, and a fraction can end up as zero.
"""

from __future__ import annotations

import math
import re

#: Milliseconds of each unit of time, the largest first.
DURATIONS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
#: Bytes of each unit of size: decimal and binary.
SIZES = {
    "TB": 1000**4,
    "GB": 1000**3,
    "MB": 1000**2,
    "KB": 1000,
    "TiB": 1024**4,
    "GiB": 1024**3,
    "MiB": 1024**2,
    "KiB": 1024,
    "B": 1,
}
_NUMBER = re.compile(r"([0-9]+)([A-Za-z]+)", re.ASCII)


def milliseconds(text: str) -> int | None:
    """The duration in milliseconds, None for `unlimited`. Raises ValueError for anything else."""
    return None if text == "unlimited" else _parse(text, DURATIONS)


def seconds(text: str) -> float:
    """The duration in seconds, `math.inf` for `unlimited`. Raises ValueError for anything else."""
    value = milliseconds(text)
    return math.inf if value is None else value / 1000


def size(text: str) -> int:
    """The size in bytes. Raises ValueError for anything else."""
    return _parse(text, SIZES)


def _parse(text: str, units: dict[str, int]) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None or match[2] not in units:
        raise ValueError(text)
    return int(match[1]) * units[match[2]]


def show_duration(value: int | None) -> str:
    """Milliseconds as the shortest exact duration; the inverse of `milliseconds`."""
    return "unlimited" if value is None else _show(value, DURATIONS)


def show_size(value: int) -> str:
    """Bytes as the shortest exact size; the inverse of `size`."""
    return _show(value, SIZES)


def _show(value: int, units: dict[str, int]) -> str:
    exact = [f"{value // factor}{unit}" for unit, factor in units.items() if value % factor == 0]
    return min(exact, key=len) if value else exact[-1]
