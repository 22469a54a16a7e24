"""Whole records of events whose letters had to be cut: files under `.kpipe/records`, which nothing rotates.

A file has one line, the record as `kpipe tail --json` prints it with its value as bytes, so that
`kpipe send TOPIC --records @FILE` sends it again. Where no file can be written, the line goes to the log in pieces.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from pathlib import Path

from orchestrator.records import Record

log = logging.getLogger("kpipe.worker")

#: Characters of one line of the log: the supervisor would break longer ones itself (64 KB).
PIECE = 48_000


class KeptRecords:
    """The records of one handler that are kept in `folder`; None: in the log."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def keep(self, record: Record) -> str:
        """Where the record is once this returns: a file's path, or a word about the log. It is on the disk then."""
        line = whole(record)
        if self._folder is not None:
            path = place_of(self._folder, record)
            try:
                _write(path, line.encode())
                return str(path)
            except OSError as e:
                log.error("%s cannot be written: %s", path, e.strerror or e)
        pieces = base64.b64encode(line.encode()).decode()
        count = -(-len(pieces) // PIECE)
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        for number in range(count):
            piece = pieces[number * PIECE : (number + 1) * PIECE]
            log.error("record %s, base64 %d of %d: %s", where, number + 1, count, piece)
        return f"the log, as base64 in {count} lines"


def place_of(folder: Path, record: Record) -> Path:
    """The timestamp tells records apart that had the same offset in a topic that was made anew."""
    return folder / record.topic / f"{record.partition}-{record.offset}-{record.timestamp}.json"


def whole(record: Record) -> str:
    """The record as one line of JSON, byte for byte."""
    key: dict[str, object] = {"key": None}
    if record.key is not None:
        try:
            key = {"key": record.key.decode()}
        except UnicodeDecodeError:
            key = {"key": None, "key_base64": _base64(record.key)}
    value = {} if record.value is None else {"value_base64": _base64(record.value)}
    headers = [[name, None if raw is None else {"base64": _base64(raw)}] for name, raw in record.headers]
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    fields = {**place, "timestamp": record.timestamp, **key, "value": None, **value, "headers": headers}
    return json.dumps(fields, ensure_ascii=True) + "\n"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing, for nobody else to read; on the disk when this returns. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
