"""A child's output on disk: `.kpipe/logs/<name>.log`, rotated by size.

Each line is `TIME STREAM TAG TEXT`, as Kubernetes' container runtimes write it: UTC time, `stdout` or `stderr`, and
`F` for a full line or `P` for one that goes on in the next. What is written is on its way to the disk when `write`
returns, so the death of the supervisor loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from orchestrator.state import made_inner
from orchestrator.supervisor.logs.lines import Line

Stream = Literal["stdout", "stderr"]

#: Bytes of one file, and how many older ones are kept beside it (`.1` is the youngest).
FILE_LIMIT = 10_000_000
FILES_KEPT = 3


class LogFile:
    """One append-only file and its predecessors. Every method may raise `OSError` (a full disk), and `StateError`."""

    def __init__(self, path: Path, limit: int = FILE_LIMIT, kept: int = FILES_KEPT) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        self._fd: int | None = None
        self._size = 0

    def write(self, stream: Stream, lines: Iterable[Line], at: datetime | None = None) -> None:
        """Append `lines`, all of them stamped with `at` (now, unless told)."""
        stamp = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        full, partial = f"{stamp} {stream} F ", f"{stamp} {stream} P "
        text = "".join(f"{partial if line.partial else full}{line.text}\n" for line in lines)
        data = text.encode("utf-8", "backslashreplace")
        if self._size and self._size + len(data) > self._limit:
            self._rotate()
        self._append(data)

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _append(self, data: bytes) -> None:
        fd = self._opened()
        while data:
            written = os.write(fd, data)
            self._size += written
            data = data[written:]

    def _opened(self) -> int:
        if self._fd is None:
            # Events may stand in it: only for the user that runs the pipeline.
            with made_inner(self.path.parent) as folder:
                self._fd = folder.open(self.path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            self._size = os.fstat(self._fd).st_size
        return self._fd

    def _rotate(self) -> None:
        self.close()
        name = self.path.name
        with made_inner(self.path.parent) as folder:
            for number in range(self._kept - 1, 0, -1):
                if folder.stat(f"{name}.{number}") is not None:
                    folder.rename(f"{name}.{number}", f"{name}.{number + 1}")
            folder.rename(name, f"{name}.1")
        self._size = 0
