"""Reading with an eye on it: how much was looked at, how long it takes, and until when."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from orchestrator.cli.render import output

if TYPE_CHECKING:
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import Record, TopicPartition

#: Seconds between two looks at the progress, and before the first one.
_EVERY = 0.25


class TimeIsUp(Exception):
    """The deadline passed while records were read or waited for."""


class Scan:
    """A reader's `read` that counts records and raises TimeIsUp after `timeout` seconds.

    On a terminal it tells how far it is, when `filtered` says that most records may not be shown.
    """

    def __init__(self, reader: Reader, timeout: float | None, *, filtered: bool) -> None:
        self._reader = reader
        self._filtered = filtered
        self._began = self._told = time.monotonic()
        self._deadline = None if timeout is None else self._began + timeout
        self._visible = False
        self.scanned = 0
        self.shown = 0

    @property
    def away(self) -> bool:
        return self._reader.away

    def read(
        self, starts: Mapping[TopicPartition, int], stops: Mapping[TopicPartition, int] | None = None
    ) -> Iterator[list[Record]]:
        """As `Reader.read`."""
        for batch in self._reader.read(starts, stops):
            self.scanned += len(batch)
            self._progress()
            yield batch
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise TimeIsUp

    def show(self, records: int) -> None:
        """So many records are about to be shown: make room for them, and count them."""
        self.shown += records
        if self._visible:
            output.in_place("")
            self._visible = False

    def tell(self) -> None:
        """What was looked at, on stderr, when something was left out."""
        if self._filtered:
            took = time.monotonic() - self._began
            records = f"{self.scanned:,} record{'' if self.scanned == 1 else 's'}"
            output.say(f"scanned {records} in {took:.1f} s, {self.shown:,} shown")

    def _progress(self) -> None:
        now = time.monotonic()
        if self._filtered and now - self._told > _EVERY and output.animated():
            self._told = now
            self._visible = True
            output.in_place(f"scanned {self.scanned:,} records, {self.shown:,} shown")
