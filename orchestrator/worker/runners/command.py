"""A handler's program: how it is started, what is no reply, and when it has to end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from orchestrator.delivery.outcome import Failed
from orchestrator.worker.isolation.memory import resident
from orchestrator.worker.runners.child_program import Program, ProgramExit

#: How long a program that closed its end of the pipe may take to end (seconds).
END_SECONDS = 1.0
#: How often the memory of a program with a limit is looked at (seconds).
LOOK_SECONDS = 0.1
#: The error type of a program that read nothing, or could not be started at all.
CANNOT_START = "CannotStart"
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Command:
    """How a handler's program is started."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]

    def start(self) -> Program:
        """Raises HandlerError or OSError when it cannot be."""
        return Program(self.argv, self.cwd, self.env)


class Garbage(ValueError):
    """What a program said is no reply."""


def read_reply(line: bytes) -> tuple[int, Any]:
    """The id and the document of a reply. Raises Garbage."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Garbage(f"it said a line that is not JSON: {shorten(line)}") from None
    id = document.get("id") if isinstance(document, dict) else None
    if type(id) is not int:
        raise Garbage(f"it said a line without the `id` of a request: {shorten(line)}")
    return id, document


def shorten(line: bytes) -> str:
    """The beginning of what a program said, printable."""
    text = line[: 4 * _SHOWN].decode("utf-8", "replace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def command_of(argv: Sequence[str], base: Path, more: Mapping[str, str] = MappingProxyType({})) -> Command:
    """A command in the pipeline's folder; its environment is the worker's with `more` and without what is for the
    worker alone.
    """
    own = ("KPIPE_CONFIG_FD", "KPIPE_STATUS_FD")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return Command(tuple(argv), base, kept | dict(more))


class Memory:
    """Looks now and then whether a program uses more memory than it may; `limit` in bytes."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._due = 0.0
        #: How long nobody has to look (seconds).
        self.patience = inf if limit is None else LOOK_SECONDS

    def exceeded(self, program: Program) -> bool:
        now = time.monotonic()
        if self._limit is None or now < self._due:
            return False
        self._due = now + LOOK_SECONDS
        return resident(program.pid) > self._limit

    @property
    def text(self) -> str:
        return f"it used more than {(self._limit or 0) // 1_000_000} MB of memory"


def could_not_start(end: ProgramExit, garbage: str = "") -> Failed:
    """A program that has read nothing: no event had a part in its end."""
    why = f"the program ended before it read an event: {garbage or end.text}"
    last = end.stderr.strip().splitlines()[-1:] or [""]
    return Failed("unavailable", f"{why}: {last[0]}" if last[0] else why, CANNOT_START, stack=end.stderr)
