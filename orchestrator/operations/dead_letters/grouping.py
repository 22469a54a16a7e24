"""Letters by their cause. Memory grows with the causes, not with the letters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.event import Letter
    from orchestrator.records import Record

#: Causes that are told apart; letters of others are only counted.
MOST = 1_000


@dataclass(frozen=True, slots=True)
class Cause:
    """The letters of one fingerprint in one DLQ; `redriven` of them were sent back, `truncated` were cut.

    Times are when they were written, in milliseconds; `sample` is the newest, `record` its record without value and
    headers.
    """

    dlq: str
    record: Record
    sample: Letter
    count: int
    redriven: int
    first: int
    last: int
    truncated: int

    @property
    def message(self) -> str:
        """What went wrong in the newest one, in one line."""
        sample = self.sample
        if sample.violations:
            return "; ".join(f"{v['path']}: {v['message']}" for v in sample.violations[:3])
        return ": ".join(part for part in (sample.error_type.rpartition(".")[2], sample.error_message) if part)

    def as_json(self) -> dict[str, Any]:
        """The shape of docs/json.md."""
        sample = self.sample
        return {
            "dlq": self.dlq,
            "fingerprint": sample.fingerprint,
            "handler": sample.handler,
            "reason": sample.reason,
            "count": self.count,
            "redriven": self.redriven,
            "truncated": self.truncated,
            "first": self.first,
            "last": self.last,
            "sample": {
                "id": sample.id,
                "partition": self.record.partition,
                "offset": self.record.offset,
                "error_type": sample.error_type,
                "error_message": sample.error_message,
                "violations": list(sample.violations),
            },
        }


@dataclass(slots=True)
class _Counting:
    """A cause whose letters are still being counted."""

    record: Record
    sample: Letter
    count: int = 0
    redriven: int = 0
    first: int = 0
    last: int = -1
    truncated: int = 0

    def add(self, record: Record, letter: Letter, redriven: bool) -> None:
        self.first = record.timestamp if not self.count else min(self.first, record.timestamp)
        self.count += 1
        self.redriven += redriven
        self.truncated += letter.truncated
        if record.timestamp >= self.last:
            self.last, self.record, self.sample = record.timestamp, _bare(record), replace(letter, headers=None)

    def result(self, dlq: str) -> Cause:
        counts = (self.count, self.redriven, self.first, self.last, self.truncated)
        return Cause(dlq, self.record, self.sample, *counts)


class Causes:
    """Every cause so far; `others` counts the letters of those that came after `MOST` causes were known."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._by: dict[tuple[str, str], _Counting] = {}
        self.letters = 0
        self.others = 0

    def add(self, dlq: str, record: Record, letter: Letter, redriven: bool) -> None:
        self.letters += 1
        key = (dlq, letter.fingerprint)
        cause = self._by.get(key)
        if cause is None:
            if len(self._by) >= self._most:
                self.others += 1
                return
            cause = self._by[key] = _Counting(_bare(record), letter)
        cause.add(record, letter, redriven)

    def newest_first(self) -> list[Cause]:
        causes = [counting.result(dlq) for (dlq, _), counting in self._by.items()]
        return sorted(causes, key=lambda cause: (-cause.last, cause.dlq, cause.sample.fingerprint))


def _bare(record: Record) -> Record:
    """The record without what takes room."""
    return record._replace(value=None, headers=())
