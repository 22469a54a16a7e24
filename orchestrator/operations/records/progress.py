"""A reader whose progress can be watched: how many records were looked at, and until when it may go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import Record, TopicPartition


class Watcher:
    """What a caller may want to know while records are read. Each method is called in the caller's own thread."""

    def scanned(self, records: int) -> None:
        """So many records were looked at, in all; called for each batch."""

    def waiting(self) -> None:
        """No record is there at the moment: what was read so far may be shown."""

    def away(self) -> None:
        """Kafka does not answer; reading goes on once it is back. Called once for each outage."""


class TimeIsUp(Exception):
    """The deadline passed while records were read or waited for."""


class Scan:
    """A reader's `read` that counts records and raises TimeIsUp after `timeout` seconds."""

    def __init__(self, reader: Reader, watcher: Watcher, timeout: float | None = None) -> None:
        self._reader = reader
        self._watcher = watcher
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.scanned = 0

    @property
    def away(self) -> bool:
        return self._reader.away

    def read(
        self, starts: Mapping[TopicPartition, int], stops: Mapping[TopicPartition, int] | None = None
    ) -> Iterator[list[Record]]:
        """As `Reader.read`."""
        for batch in self._reader.read(starts, stops):
            self.scanned += len(batch)
            self._watcher.scanned(self.scanned)
            yield batch
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise TimeIsUp
