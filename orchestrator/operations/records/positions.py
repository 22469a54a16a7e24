"""Where `tail` starts to read: the words of `-o`, and the offsets they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import TopicPartition


@dataclass(frozen=True, slots=True)
class Position:
    """`number` is an offset, or a time in milliseconds since the epoch; beginning and end have none."""

    kind: Literal["beginning", "end", "offset", "time"]
    number: int = 0


def parse_position(text: str, now: datetime) -> Position:
    """`beginning`, `end`, `42`, `@-15m`, `@2025-01-31T12:00`, `@1738324800000`. Raises UsageError.

    A time without a zone is local, as the times that `tail` shows are.
    """
    if text in ("beginning", "end"):
        return Position("beginning" if text == "beginning" else "end")
    if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        return Position("offset", int(text))
    if text.startswith("@"):
        return Position("time", _moment(text[1:], now))
    raise _unknown(text)


def starts(
    position: Position,
    reader: Reader,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """The offset to start at in each partition, within what the partition has."""
    if position.kind == "beginning":
        return dict(begins)
    if position.kind == "end":
        return dict(ends)
    if position.kind == "offset":
        return {tp: min(max(position.number, begins[tp]), ends[tp]) for tp in begins}
    return {tp: min(offset, ends[tp]) for tp, offset in reader.at_time(begins, position.number).items()}


def _moment(text: str, now: datetime) -> int:
    from orchestrator.config.units import milliseconds

    if re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        return int(text)
    try:
        if text.startswith("-"):
            ago = milliseconds(text[1:])
            if ago is not None:
                return max(0, int(now.timestamp() * 1000) - ago)
        else:
            return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise _unknown("@" + text)


def _unknown(text: str) -> UsageError:
    return UsageError(
        f"-o {text}: no such place in a topic",
        "write -o beginning, end, an offset such as 42, @-15m (so long ago) or @2025-01-31T12:00",
    )
