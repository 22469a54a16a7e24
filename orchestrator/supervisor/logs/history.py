"""Reading `.kpipe/logs`: the lines of many children in the order of time, the last ones or as they come.

A child's files are `<name>.log` and, older, `.log.1` and so on (`supervisor/logs/files.py`). What is no line of that
format, such as Kafka's own log, is passed over.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import merge
from operator import attrgetter
from pathlib import Path
from typing import IO, NamedTuple

from orchestrator.state import inner
from orchestrator.supervisor.logs.files import FILES_KEPT

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (stdout|stderr) ([FP]) (.*)", re.DOTALL)
_SUFFIX = ".log"
#: Bytes; far more than the longest line that supervisor/logs/lines.py makes.
_LONGEST = 1_048_576
#: kpipe's own lines.
OWN = "_up"


class LogEntry(NamedTuple):
    """One line. `at` is UTC in a form that sorts by time."""

    at: str
    name: str
    stream: str
    partial: bool
    text: str


Wanted = Callable[[LogEntry], bool]


def names(folder: Path) -> list[str]:
    """The children that have a log, kpipe itself (`OWN`) included."""
    with inner(folder) as logs:
        return [name.removesuffix(_SUFFIX) for name in (logs.names() if logs else ()) if name.endswith(_SUFFIX)]


def of_handlers(children: Sequence[str], handlers: Sequence[str]) -> list[str]:
    """Those of `children` that are these handlers or replicas of them."""
    return [name for name in children if name in handlers or name.partition(".")[0] in handlers]


def stamp(seconds: float) -> str:
    """A time since the epoch as the logs have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def last(
    folder: Path, children: Iterable[str], count: int | None, wanted: Wanted
) -> list[LogEntry] | Iterator[LogEntry]:
    """The last `count` entries that are wanted, oldest first; all of them, one by one, when it is None."""
    if count is None:
        return merge(*(_all(folder, name, wanted) for name in children), key=attrgetter("at"))
    each = [_last_of(folder, name, count, wanted) for name in children]
    return list(deque(merge(*each, key=attrgetter("at")), maxlen=count)) if count else []


def _all(folder: Path, name: str, wanted: Wanted) -> Iterator[LogEntry]:
    for file in reversed(_files(folder, name)):
        yield from filter(wanted, _read(folder, file, name))


def _last_of(folder: Path, name: str, count: int, wanted: Wanted) -> list[LogEntry]:
    found: list[LogEntry] = []
    for file in _files(folder, name):
        newest = deque(filter(wanted, _read(folder, file, name)), maxlen=count - len(found))
        found = [*newest, *found]
        if len(found) >= count:
            break
    return found


def _files(folder: Path, name: str) -> list[str]:
    """The names of a child's files, the newest first."""
    names = [f"{name}{_SUFFIX}", *(f"{name}{_SUFFIX}.{n}" for n in range(1, FILES_KEPT + 1))]
    with inner(folder) as logs:
        return [file for file in names if logs and logs.stat(file) is not None]


def _read(folder: Path, file: str, name: str) -> Iterator[LogEntry]:
    opened = _opened(folder, file)
    if opened is None:
        return
    with opened.file as lines:
        # No line of ours is longer: what is left of one that is makes no entry either.
        while line := lines.readline(_LONGEST):
            if (entry := parse(line.decode("utf-8", "backslashreplace"), name)) is not None:
                yield entry


def parse(line: str, name: str) -> LogEntry | None:
    """One line of a file; None for what is no (whole) line of ours."""
    found = _LINE.fullmatch(line.removesuffix("\n")) if line.endswith("\n") else None
    return None if found is None else LogEntry(found[1], name, found[2], found[3] == "P", found[4])


@dataclass
class _Open:
    """A file that is followed, and what was read of a line that is not whole yet."""

    file: IO[bytes]
    inode: int
    rest: bytes = b""


class Followed:
    """New entries since it was made, of children that `admit` lets pass, also of those that come later."""

    def __init__(self, folder: Path, admit: Callable[[str], bool]) -> None:
        self._folder = folder
        self._admit = admit
        self._open: dict[str, _Open] = {}
        for name in filter(admit, names(folder)):
            if (opened := _opened(folder, f"{name}{_SUFFIX}")) is not None:
                opened.file.seek(0, 2)
                self._open[name] = opened

    def new(self) -> list[LogEntry]:
        """What has been written since the last call, in the order of time."""
        found: list[LogEntry] = []
        for name in filter(self._admit, names(self._folder)):
            found += self._new_of(name)
        return sorted(found, key=attrgetter("at"))

    def close(self) -> None:
        for one in self._open.values():
            one.file.close()

    def _new_of(self, name: str) -> Iterator[LogEntry]:
        # One that is new may have filled several files since the last call.
        if name not in self._open and (fresh := self._after(name, -1)) is not None:
            self._open[name] = fresh
        while name in self._open:
            one = self._open[name]
            # Who follows is asked for before the end is read: nothing is written to a file after its rotation.
            after = self._after(name, one.inode)
            while data := one.file.read(_LONGEST):
                *lines, rest = (one.rest + data).split(b"\n")
                one.rest = rest[-_LONGEST:]
                for line in lines:
                    entry = parse(line.decode("utf-8", "backslashreplace") + "\n", name)
                    if entry is not None:
                        yield entry
            if after is None:
                return
            one.file.close()
            self._open[name] = after

    def _after(self, name: str, inode: int) -> _Open | None:
        """The file that was begun after the one with this inode; None while there is none."""
        with inner(self._folder) as logs:
            newest = logs.stat(f"{name}{_SUFFIX}") if logs else None  # None: just being rotated
        if newest is not None and newest.st_ino == inode:
            return None
        names = _files(self._folder, name)
        files = [opened for file in names if (opened := _opened(self._folder, file)) is not None]
        older = [at for at, opened in enumerate(files) if opened.inode == inode]
        # Not among them any more: so much was written meanwhile that it is gone. Go on with the oldest there is.
        following = (older[0] if older else len(files)) - 1
        for at, opened in enumerate(files):
            if at != following:
                opened.file.close()
        return files[following] if following >= 0 else None


def _opened(folder: Path, name: str) -> _Open | None:
    """None when it was rotated away just now. Raises `StateError` for what is no file of this user."""
    try:
        with inner(folder) as logs:
            if logs is None:
                return None
            fd = logs.open(name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    return _Open(os.fdopen(fd, "rb"), os.fstat(fd).st_ino)
