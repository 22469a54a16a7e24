"""What a worker measured, as it goes over the status pipe: pure values, and the same JSON in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.observe.metrics import BOUNDS, BY_NAME

#: Metric -> value of its label ("" without one) -> number.
Numbers = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of one process; the counts are those since it started."""

    counts: Numbers = field(default_factory=dict)
    gauges: Numbers = field(default_factory=dict)
    buckets: Sequence[int] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts, "gauges": self.gauges,
            "buckets": list(self.buckets), "seconds": round(self.seconds, 6),
        }  # fmt: skip


class OwnedPartition(NamedTuple):
    """One owned partition. None: not known now."""

    topic: str
    partition: int
    records: int
    lag: int | None = None
    lag_seconds: float | None = None
    frontier_lag: int = 0
    frontier_age: float = 0.0


def measured_from(said: Mapping[str, Any]) -> Measured:
    """Raises `ValueError` for what `as_json` does not give."""
    buckets = said.get("buckets")
    if not isinstance(buckets, list) or len(buckets) != len(BOUNDS) + 1:
        raise ValueError("the buckets are not those of this version")
    return Measured(
        _numbers(said.get("counts")), _numbers(said.get("gauges")),
        tuple(int(_number(b)) for b in buckets), _number(said.get("seconds")),
    )  # fmt: skip


def places_from(rows: object) -> list[OwnedPartition]:
    """Raises `ValueError` for anything but a list of the fields of `OwnedPartition`."""
    if not isinstance(rows, list):
        raise ValueError("the partitions are no list")
    return [OwnedPartition(*_row(row)) for row in rows]


def _row(row: object) -> list[Any]:
    if not isinstance(row, list) or len(row) != len(OwnedPartition._fields) or not isinstance(row[0], str):
        raise ValueError(f"no partition: {row!r}")
    numbers = [None if value is None and at in (3, 4) else _number(value) for at, value in enumerate(row[1:], 1)]
    return [row[0], int(row[1]), *numbers[1:]]


def _numbers(said: object) -> dict[str, dict[str, float]]:
    if not isinstance(said, dict):
        raise ValueError("no numbers")
    told: dict[str, dict[str, float]] = {}
    for name, by_label in said.items():
        if name not in BY_NAME or not isinstance(by_label, dict):
            raise ValueError(f"no such metric: {name!r}")
        told[name] = {str(label): _number(value) for label, value in by_label.items()}
    return told


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"not a number: {value!r}")
    return value
