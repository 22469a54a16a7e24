"""What the grammar refuses, in words: what is expected, what is there instead, what to write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.config import units
from orchestrator.config.syntax.grammar import Schema

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_UNITS = {"duration": "a duration such as 500ms, 30s, 10m or 7d", "size": "a size such as 512KB, 1MB or 2GiB"}
_UNIT_HINTS = {"duration": "units: ms, s, m, h, d", "size": "units: B, KB, MB, GB, TB and KiB, MiB, GiB, TiB"}
_LIKELY = {
    "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d",
    "b": "B", "byte": "B", "bytes": "B", "k": "KB", "kb": "KB", "m": "MB", "mb": "MB", "g": "GB", "gb": "GB",
    "tb": "TB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB",
}  # fmt: skip


def expected(part: Schema) -> str:
    """What may stand where `part` of the grammar rules."""
    if "x-kpipe-expected" in part:
        return str(part["x-kpipe-expected"])
    if "x-kpipe-unit" in part:
        unlimited = ", or unlimited" if "unlimited" in part["pattern"] else ""
        return _UNITS[part["x-kpipe-unit"]] + unlimited
    if "enum" in part:
        return either(part["enum"])
    given = part.get("type", [])
    names = [given] if isinstance(given, str) else given
    return " or ".join(_TYPES[name] for name in names)


def either(options: list[Any]) -> str:
    """`a`, `b` or `c`."""
    shown = [f"`{option}`" for option in options]
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def described(value: Any, shown: str) -> str:
    """What a value is; `shown` is how its text may be printed."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if value == "":
        return "an empty text"
    if isinstance(value, str):
        return f"the text `{clipped(shown)}`" if shown == value else f"`{shown}`"
    if isinstance(value, bool):
        return str(value).lower()
    return f"the number {shown}" if shown == str(value) else f"`{shown}`"


def clipped(text: str, most: int = 60) -> str:
    """At most `most` characters of `text`."""
    return text if len(text) <= most else text[: most - 1] + "…"


def unit_hint(part: Schema, value: Any, shown: str) -> str:
    """How to write a duration or a size that has no unit, an unknown one, or a fraction."""
    kind = part["x-kpipe-unit"]
    if shown != str(value):
        return _UNIT_HINTS[kind]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        guess = _with_unit(kind, value)
    else:
        guess = _corrected(kind, str(value))
    allowed = guess is not None and re.search(part["pattern"], guess)
    return f"write {guess} ({_UNIT_HINTS[kind]})" if allowed else _UNIT_HINTS[kind]


def _with_unit(kind: str, value: float) -> str | None:
    """A bare number of 1000 and more is most likely in milliseconds, as Kafka's own settings are."""
    if value != int(value) or value < 0:
        return _fraction(kind, value, "s" if kind == "duration" else "MB")
    if kind == "size":
        return units.show_size(int(value))
    return units.show_duration(int(value)) if value >= 1000 else f"{int(value)}s"


def _corrected(kind: str, text: str) -> str | None:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if match is None:
        return "unlimited" if text.lower() in ("-1", "infinite", "forever", "never", "none", "inf") else None
    known: Mapping[str, int] = units.DURATIONS if kind == "duration" else units.SIZES
    unit = match[2] if match[2] in known else _LIKELY.get(match[2].lower(), match[2].lower())
    if not unit:
        return _with_unit(kind, float(match[1]))
    if unit not in known:
        return None
    return match[1] + unit if "." not in match[1] else _fraction(kind, float(match[1]), unit)


def _fraction(kind: str, value: float, unit: str) -> str | None:
    """`1.5s` as `1500ms`: exact in a smaller unit, or nothing."""
    known: Mapping[str, int] = units.DURATIONS if kind == "duration" else units.SIZES
    exact = round(value * known[unit], 6)
    if exact != int(exact) or exact < 0:
        return None
    return units.show_duration(int(exact)) if kind == "duration" else units.show_size(int(exact))
