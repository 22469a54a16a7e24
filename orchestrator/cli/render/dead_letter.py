"""One letter, whole: what `kpipe dlq show` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.cli.render import output
from orchestrator.cli.render import record as formats
from orchestrator.cli.render.output import paint, safe
from orchestrator.delivery.headers.dead_letters import PREFIX, number
from orchestrator.operations.records import exact_json

if TYPE_CHECKING:
    from orchestrator.event import Letter
    from orchestrator.records import Record

#: Further headers of a letter by their field in JSON.
_MORE = ("group", "pipeline", "stack", "exit", "event-id", "first-failed-at", "last-failed-at")


def as_json(record: Record, letter: Letter, dlq: str) -> str:
    """The record as `tail --json` prints it, with `letter` added (docs/json.md)."""
    said = letter.headers or {}
    timestamp = number(said.get("timestamp"), -1)
    fields = {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": None if timestamp < 0 else timestamp,
        "handler": letter.handler,
        "reason": letter.reason,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "violations": list(letter.violations),
        "attempts": letter.attempts,
        "fingerprint": letter.fingerprint,
        "redrive_count": letter.redrive_count,
        "truncated": truncated(letter),
        **{name.replace("-", "_"): said.get(name, "") for name in _MORE},
    }
    return f'{formats.as_json(record, dlq)[:-1]},"letter":{output.dumps(fields)}}}'


def truncated(letter: Letter) -> dict[str, int] | None:
    """The sizes in bytes that key, value and headers of the event had, of a letter that was cut; None of any other."""
    if not letter.truncated:
        return None
    try:
        sizes = json.loads((letter.headers or {}).get("truncated", ""))
        return {name: int(sizes[name]) for name in ("key", "value", "headers")}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}  # somebody else's header


def _cut(record: Record, letter: Letter) -> str:
    sizes = truncated(letter)
    if sizes is None:
        return ""
    had = ", ".join(f"{name} of {size:,} bytes" for name, size in sizes.items() if size)
    kept = f"{len(record.value or b''):,} bytes of the value are here"
    return f"{kept}; the event had a {had}; the log of {letter.handler} says where it is whole"


def for_people(record: Record, letter: Letter, dlq: str) -> Iterator[str]:
    """Lines: where it is, why it is there, its own headers, its value and the stack."""
    yield paint(f"{dlq}[{record.partition}]@{record.offset}", "bold")
    rows = [(name, text) for name, text in _rows(record, letter) if text]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {paint(f'{name:<{width}}', 'dim')}  {safe(text)}"
    yield from ("", *_value(record.value))
    stack = (letter.headers or {}).get("stack", "")
    if stack:
        yield from ("", safe(stack.rstrip(), lines=True))


def _rows(record: Record, letter: Letter) -> Iterator[tuple[str, str]]:
    said = letter.headers or {}
    attempts = f", {letter.attempts} attempt{'' if letter.attempts == 1 else 's'}" if letter.attempts else ""
    yield "reason", f"{letter.reason} by {letter.handler}{attempts}"
    yield "error", ": ".join(part for part in (letter.error_type, letter.error_message) if part)
    for violation in letter.violations:
        yield "violation", f"{violation['path']}: {violation['message']}"
    yield "exit", said.get("exit", "")
    yield "from", f"{letter.topic}[{letter.partition}]@{letter.offset}"
    yield "event time", formats.time_of(number(said.get("timestamp"), -1))
    yield "event id", said.get("event-id", "")
    yield "first failed", said.get("first-failed-at", "")
    yield "last failed", said.get("last-failed-at", "")
    yield "written", formats.time_of(record.timestamp)
    yield "id", letter.id
    yield "fingerprint", letter.fingerprint
    yield "cut", _cut(record, letter)
    yield "redriven", f"{letter.redrive_count} time{'' if letter.redrive_count == 1 else 's'} before"
    yield "key", "null" if record.key is None else record.key.decode("utf-8", "backslashreplace")
    for name, value in record.headers:
        if not name.startswith(PREFIX):
            yield "header", f"{name}: {'null' if value is None else value.decode('utf-8', 'backslashreplace')}"


def _value(raw: bytes | None) -> Iterator[str]:
    if raw is None:
        yield paint("(tombstone)", "dim")
        return
    text = exact_json.compact(raw)
    if text is None:
        yield paint(f"(not JSON, {len(raw)} bytes)", "yellow")
        yield safe(raw.decode("utf-8", "backslashreplace"), lines=True)
    else:
        yield safe(exact_json.indented(text), lines=True)
