"""How far reading is, on stderr: records looked at and shown, letters read, and what was left out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.cli.render import output
from orchestrator.operations.records.progress import Watcher
from orchestrator.text import safe

if TYPE_CHECKING:
    from orchestrator.operations.records.where import Where

#: Seconds between two lines of progress, and before the first one.
_EVERY = 0.25


class ScanProgress(Watcher):
    """Shows on a terminal how far a scan is, when `filtered` says that most records may not be shown.

    With `streams` records are printed meanwhile: they are flushed before it waits, and a reader of stdout that went
    away ends it with BrokenPipeError.
    """

    def __init__(self, *, filtered: bool, streams: bool = False) -> None:
        self._filtered = filtered
        self._streams = streams
        self._began = self._last = time.monotonic()
        self._visible = False
        self._scanned = 0
        self.shown = 0

    def scanned(self, records: int) -> None:
        self._scanned = records
        now = time.monotonic()
        if self._filtered and now - self._last > _EVERY and output.animated():
            self._last = now
            self._visible = True
            output.in_place(f"scanned {records:,} records, {self.shown:,} shown")

    def waiting(self) -> None:
        if self._streams:
            output.flush()
            output.check_reader()

    def away(self) -> None:
        output.say("Kafka is away; waiting for it to come back")

    def show(self, records: int) -> None:
        """So many records are about to be shown: make room for them, and count them."""
        self.shown += records
        if self._visible:
            output.in_place("")
            self._visible = False

    def summary(self, where: Where | None) -> None:
        """What was looked at, when something was left out, and what `where` could not be asked about."""
        if self._filtered:
            took = time.monotonic() - self._began
            records = f"{self._scanned:,} record{'' if self._scanned == 1 else 's'}"
            output.say(f"scanned {records} in {took:.1f} s, {self.shown:,} shown")
        unasked(where)


class LetterProgress:
    """Shows on a terminal how many letters were read."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, letters: int) -> None:
        now = time.monotonic()
        if now - self._last > _EVERY:
            self._last = now
            output.in_place(f"read {letters:,} letters")


def unasked(where: Where | None) -> None:
    """How many records an expression could not be asked about, and why."""
    if where is not None and where.failed:
        output.say(f"--where could not be asked about {where.failed:,} of them: {safe(where.why)}")
