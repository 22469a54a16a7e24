"""What a child says on its status pipe: one JSON object a line. Pure.

{"type": "ready", "partitions": [["orders.created", 0], …]}    joined and assigned (none is fine)
{"type": "not-ready"}                                          partitions lost and not yet given again
{"type": "status", "accounting": {…}, "lag": N|null, "paused": N, "last_error": text|null}
{"type": "journal", "path": …}                                 what it has in flight (observe/journal.py)
{"type": "metrics", "counts": {…}, "gauges": {…}, …}           as in observe/measured.py
{"type": "places", "at": N, "of": N, "rows": [[…], …]}         its partitions, part `at` of `of`
{"type": "failed-to-start", "message": …, "hint": …}           followed by exit code 78
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from orchestrator.observe.measured import Measured, OwnedPartition, measured_from, places_from
from orchestrator.supervisor.logs.lines import printable
from orchestrator.supervisor.spec import StartRefusal

#: The counts of `in = done + dead-lettered + skipped + in flight`, in the order they are shown.
COUNTS = ("in", "done", "dead_lettered", "skipped", "in_flight")


@dataclass(frozen=True, slots=True)
class Status:
    """The newest numbers of one child. `lag` is in records, None when it is not known."""

    accounting: Mapping[str, int] | None = None
    lag: int | None = None
    paused: int = 0
    last_error: str | None = None
    breaker: str = "closed"


class Places(NamedTuple):
    """One part of a child's partitions."""

    at: int = 0
    of: int = 1
    rows: Sequence[OwnedPartition] = ()


@dataclass(frozen=True, slots=True)
class ChildReport:
    """One line of the status pipe."""

    type: Literal["ready", "not-ready", "status", "journal", "metrics", "places", "failed-to-start"]
    status: Status = field(default_factory=Status)
    refusal: StartRefusal | None = None
    journal: Path | None = None
    measured: Measured = field(default_factory=Measured)
    places: Places = field(default_factory=Places)


def parse(line: bytes) -> ChildReport:
    """Raises `ValueError` for anything that is not one of those."""
    try:
        body = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(body, dict):
        raise ValueError("not an object")
    match body.get("type"):
        case "ready" | "not-ready" as kind:
            return ChildReport(kind)
        case "status":
            return ChildReport("status", status=_status(body))
        case "journal":
            return ChildReport("journal", journal=Path(str(body.get("path"))))
        case "metrics":
            return ChildReport("metrics", measured=measured_from(body))
        case "places":
            at, of = _count(body.get("at")), _count(body.get("of"))
            return ChildReport("places", places=Places(at or 0, of or 1, places_from(body.get("rows"))))
        case "failed-to-start":
            return ChildReport(
                "failed-to-start", refusal=StartRefusal(_text(body.get("message")), _text(body.get("hint")))
            )
        case other:
            raise ValueError(f"no such type: {other!r}")


def _status(body: Mapping[str, Any]) -> Status:
    counts = body.get("accounting")
    if counts is not None and not (isinstance(counts, dict) and all(type(counts.get(n)) is int for n in COUNTS)):
        raise ValueError("accounting is not complete")
    error = body.get("last_error")
    return Status(
        accounting=None if counts is None else {name: counts[name] for name in COUNTS},
        lag=_count(body.get("lag")),
        paused=_count(body.get("paused")) or 0,
        last_error=None if error is None else _text(error),
        breaker=_text(body.get("breaker")) or "closed",
    )


def _count(value: object) -> int | None:
    if value is not None and type(value) is not int:
        raise ValueError(f"not a count: {value!r}")
    return value


def _text(value: object) -> str:
    # It may quote an event: nothing in it may act on a terminal.
    return "\n".join(printable(line.encode("utf-8", "backslashreplace")) for line in str(value or "").split("\n"))
