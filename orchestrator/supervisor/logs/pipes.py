"""The pipes between the supervisor and a child, on the event loop. Nothing here blocks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

_CHUNK = 65_536
# The kernel keeps at most 1 MB in a pipe unless it is told otherwise. Everything above was written by something
# that left its process group and lives on; it can be read for ever.
_LAST_WORDS = 2_097_152


class Inlet:
    """The reading end of a pipe. `drain` takes what is there now, `ended` hears of end of file."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        heard: Callable[[bytes], None],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._fd: int | None = fd
        self._heard = heard
        self._ended = ended
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._read)

    def drain(self) -> None:
        left = _LAST_WORDS
        while self._fd is not None and left > 0:
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                return
            left -= len(data)
            self._heard(data)

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)

    def _read(self) -> None:
        if self._fd is None:
            return
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._heard(data)
            return
        self.close()
        self._ended()


class Outlet:
    """The writing end of a pipe: `data` as fast as it is read, then end of file."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, data: bytes) -> None:
        self._loop = loop
        self._fd: int | None = fd
        self._left = memoryview(data)
        os.set_blocking(fd, False)
        loop.add_writer(fd, self._write)

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            self._loop.remove_writer(fd)
            os.close(fd)

    def _write(self) -> None:
        if self._fd is None:
            return
        try:
            self._left = self._left[os.write(self._fd, self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # It ended without reading; its end will be told.
            self.close()
            return
        if not self._left:
            self.close()


@dataclass(slots=True)
class Pipes:
    """Both ends of the pipes to a child, by name."""

    ours: dict[str, int] = field(default_factory=dict)
    theirs: dict[str, int] = field(default_factory=dict)

    def open(self, name: str, *, child_writes: bool) -> int:
        """Open a pipe and return the child's end."""
        reading, writing = os.pipe()
        self.ours[name], self.theirs[name] = (reading, writing) if child_writes else (writing, reading)
        return self.theirs[name]

    def close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.popitem()[1])

    def close(self) -> None:
        self.close_theirs()
        while self.ours:
            os.close(self.ours.popitem()[1])
