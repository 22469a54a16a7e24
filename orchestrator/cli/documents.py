"""What `kpipe send` was told to send: `JSON`, `@file` or `-`, as one document or as JSON lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.cli import exact
from orchestrator.errors import UsageError


class Raw(NamedTuple):
    """Bytes to be sent as they stand (`--no-validate` with something that is not JSON)."""

    value: bytes


def documents(word: str, *, allow_raw: bool) -> list[Any]:
    """The documents that `word` means; a `Raw` where it is not JSON and that is allowed. Raises UsageError.

    A whole input that is one document is one event, however many lines it has; otherwise every line that is not
    blank has to be a document of its own.
    """
    from orchestrator.contracts import Undecodable

    raw, name = _read(word)
    try:
        return [exact.parse(raw)]
    except Undecodable as error:
        reason = error.reason
    lines = [(number, line) for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise UsageError(f"{name} is empty", "give one JSON document, or one on each line")
    try:
        return _each(lines, name) if len(lines) > 1 else _not_json(name, reason)
    except UsageError:
        if allow_raw:
            return [Raw(raw)]
        raise


def _each(lines: list[tuple[int, bytes]], name: str) -> list[Any]:
    from orchestrator.contracts import Undecodable

    found = []
    for number, line in lines:
        try:
            found.append(exact.parse(line))
        except Undecodable as error:
            _not_json(f"line {number} of {name}", error.reason)
    return found


def _not_json(name: str, reason: str) -> list[Any]:
    raise UsageError(f"{name} is not JSON: {reason}", "--no-validate sends it as it stands, byte for byte")


def _read(word: str) -> tuple[bytes, str]:
    if word == "-":
        return sys.stdin.buffer.read(), "the standard input"
    if not word.startswith("@"):
        return word.encode("utf-8", "surrogateescape"), "the event"
    path = Path(word[1:])
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
