"""JSON in and out of Kafka: `decode_json` never crashes, and both directions accept the same documents.

What `decode_json` returns `encode_json` can write, and what `encode_json` returns `decode_json` can read.
The limit on nesting is orjson's writer's (254 levels, while its reader would take 1,024): whatever comes in
can be passed on. Numbers are read as 64-bit integers or IEEE 754 doubles, as RFC 8259 section 6 expects of
implementations: 15 significant digits survive. Of duplicate names the last one counts. A byte order mark is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

from orchestrator.contracts.paths import Step, json_path

MAX_DEPTH = 254
#: No document of so many bytes is nested too deeply.
SHALLOW = 2 * MAX_DEPTH
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


class Undecodable(ValueError):
    """These bytes are not a JSON document that kpipe can read; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unencodable(ValueError):
    """This value cannot be said in JSON; `path` says where (`$.items[0]`), `reason` why."""

    def __init__(self, reason: str, path: str = "$") -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def decode_json(raw: bytes) -> Any:
    """The value of a JSON document in UTF-8. Raises Undecodable for everything that is none."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Undecodable(_TOO_DEEP if _is_depth(error) else str(error)) from None
    if len(raw) > SHALLOW and raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _refuse_depth(value)
    return value


def _refuse_depth(value: Any) -> None:
    # Writing a value that was just read can fail for one reason only: its depth.
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise Undecodable(_TOO_DEEP) from None


def encode_json(value: Any) -> bytes:
    """A value as a compact JSON document in UTF-8. Raises Unencodable.

    Beyond plain JSON: `Decimal` (every digit is kept), `UUID`, `date`, and `datetime` with a time zone (RFC
    3339 in UTC). NaN, infinities, integers over 64 bits and names that are not strings are refused: no
    reader would get back what was meant.
    """
    try:
        raw = orjson.dumps(value, default=_extra, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
            raise error.__cause__ from None  # Ctrl-C while `_extra` ran
        raise _blame(value, error) from None
    # orjson writes NaN and infinities as null, silently; only a document with a null in it can hide one.
    if b"null" in raw:
        _refuse_non_finite(value)
    return raw


def _extra(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, date):
        return value.isoformat()
    raise Unencodable(f"{type(value).__name__} has no JSON form")


def _number(value: Decimal) -> orjson.Fragment:
    if not value.is_finite():
        raise Unencodable(f"{value} is not a JSON number")
    if math.isinf(float(value)):
        raise Unencodable("the number is too large for a double")
    return orjson.Fragment(str(value).encode())


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        raise Unencodable("a datetime without a time zone; use datetime.now(UTC)")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _refuse_non_finite(value: Any) -> None:
    for steps, node in _walk(value):
        if isinstance(node, float) and not math.isfinite(node):
            raise Unencodable(f"{node} is not a JSON number", json_path(steps))


def _blame(value: Any, error: orjson.JSONEncodeError) -> Unencodable:
    """Where in `value` orjson stumbled: it says what, but not where."""
    if _is_depth(error):
        return Unencodable(_TOO_DEEP)
    for steps, node in _walk(value):
        reason = _fault(node)
        if reason:
            return Unencodable(reason, json_path(steps))
    return Unencodable(_because(error))


def _fault(node: Any) -> str:
    if isinstance(node, dict):
        return next((f"the name {name!a} is not a Unicode string" for name in node if not _is_name(name)), "")
    if isinstance(node, (list, tuple)):
        return ""
    try:
        orjson.dumps(node, default=_extra, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        return _because(error)
    return ""


def _is_depth(error: Exception) -> bool:
    # orjson has no error class for it, and has worded it in both ways.
    return "recursion limit" in str(error).lower() or "depth limit" in str(error).lower()


def _because(error: orjson.JSONEncodeError) -> str:
    """The reason that `_extra` gave, where it was the one that refused."""
    cause = error.__cause__
    return cause.reason if isinstance(cause, Unencodable) else str(cause or error)


def _is_name(name: Any) -> bool:
    return type(name) is str and name.encode("utf-8", "ignore").decode() == name


def _walk(value: Any) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Every node with its path. Iterative: the caller's stack may be nearly used up."""
    stack: list[tuple[tuple[Step, ...], Any]] = [((), value)]
    while stack:
        steps, node = stack.pop()
        yield steps, node
        if isinstance(node, Enum):
            stack.append((steps, node.value))
        elif isinstance(node, dict):
            stack.extend(((*steps, name), child) for name, child in node.items())
        elif isinstance(node, (list, tuple)):
            stack.extend(((*steps, index), child) for index, child in enumerate(node))
