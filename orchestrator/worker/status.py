"""What a worker tells its supervisor: JSON lines on the pipe that `KPIPE_STATUS_FD` names.

The supervisor may be slow or gone: a status that does not fit into the pipe is dropped (the next one has newer
numbers), while a change of readiness is kept until it fits.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.observe.measured import Measured, OwnedPartition
from orchestrator.records import TopicPartition

#: Of a line's 4,096 bytes so many are for partitions.
_PLACES_BYTES = 3_900


class StatusPipe:
    """The worker's end of the status pipe; without one (`fd` None) everything is dropped."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._unsent: deque[bytes] = deque()
        if fd is not None:
            os.set_blocking(fd, False)

    def let_go(self) -> None:
        """Close the pipe: in a process that a handler has forked off the worker."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def ready(self, partitions: Sequence[TopicPartition]) -> None:
        self._say({"type": "ready", "partitions": [list(tp) for tp in partitions]})

    def not_ready(self) -> None:
        self._say({"type": "not-ready"})

    def failed_to_start(self, message: str, hint: str) -> None:
        self._say({"type": "failed-to-start", "message": message, "hint": hint})

    def journal(self, path: Path) -> None:
        """Where what is in flight is written down, for whoever watches over its deadlines."""
        self._say({"type": "journal", "path": str(path)})

    def status(
        self, accounting: Mapping[str, int], lag: int | None, paused: int, breaker: str, last_error: str | None
    ) -> None:
        said = {
            "type": "status",
            "accounting": accounting,
            "lag": lag,
            "paused": paused,
            "breaker": breaker,
            "last_error": last_error,
        }
        self._flush()
        if not self._unsent:
            self._write(_line(said))

    def measured(self, measured: Measured, places: Sequence[OwnedPartition]) -> None:
        """The metrics, in as many lines as they take; dropped like a status."""
        parts = list(_parts(places))
        lines = [_line({"type": "metrics", **measured.as_json()})]
        lines += [_line({"type": "places", "at": at, "of": len(parts), "rows": rows}) for at, rows in enumerate(parts)]
        self._flush()
        if not self._unsent:
            all(self._write(line) for line in lines)

    def _say(self, said: Mapping[str, object]) -> None:
        self._unsent.append(_line(said))
        self._flush()

    def _flush(self) -> None:
        while self._unsent and self._write(self._unsent[0]):
            self._unsent.popleft()

    def _write(self, line: bytes) -> bool:
        """Lines are below PIPE_BUF (4,096 bytes), so that each goes through whole or not at all (POSIX write)."""
        if self._fd is None:
            return True
        try:
            os.write(self._fd, line)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            self._fd = None
        return True


def _line(said: Mapping[str, object]) -> bytes:
    line = json.dumps(said).encode() + b"\n"
    if len(line) <= 4_096:
        return line
    # A character outside the BMP takes 12 bytes of JSON.
    short = {k: (v[:150] if isinstance(v, str) else v if k != "partitions" else []) for k, v in said.items()}
    return json.dumps(short).encode() + b"\n"


def _parts(places: Sequence[OwnedPartition]) -> Iterator[list[OwnedPartition]]:
    """As many at a time as fit into a line; one empty part for none."""
    part: list[OwnedPartition] = []
    size = 0
    for place in places:
        bytes_ = len(json.dumps(place)) + 2
        if part and size + bytes_ > _PLACES_BYTES:
            yield part
            part, size = [], 0
        part.append(place)
        size += bytes_
    yield part
