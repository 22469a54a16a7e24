"""What of a partition arrived lately, so that it is known again in the log of a topic that was made anew.

A consumer does not notice that its topic was deleted and made anew: it reads on at its offset, in the new log
(librdkafka #3255). Until the topic's new id is seen, the records of both logs arrive in one sequence of offsets: first
those of the former topic, then those of the new one. `part` finds where the new ones begin, by comparing what arrived
with the new log.

Rules:
- Every poll adds one `PolledRun`: its offsets, its timestamps, and marks of its first and its last record. This is on
  the path of every event, so nothing more is kept of the others.
- `verify` is called when a question about the topic's id was asked, and again when it had the expected answer: what
  arrived before the last but one such question is of the former topic, and forgotten.
- In doubt a record counts as one of the former topic: then the new one's event runs, even if it may have run before.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from orchestrator.records import Record

_OFFSET, _TIMESTAMP = itemgetter(2), itemgetter(3)

#: A record's timestamp, and a hash of its key and value.
Mark = tuple[int, int]
#: So much of a value is hashed (bytes), besides its length.
_HASHED = 4_096
#: So many runs and records are kept while no answer comes; the oldest go first, and with them what could be known.
_MOST_RUNS = 10_000
_MOST_RECORDS = 1_000_000


class PolledRun(NamedTuple):
    """What one poll brought of a partition, in order."""

    offsets: Sequence[int]
    timestamps: array[int]
    first: Mark
    last: Mark


def mark_of(record: Record) -> Mark:
    """What tells a record from another one at the same offset of another log."""
    value = record.value
    return record.timestamp, hash((record.key, value if value is None else (len(value), value[:_HASHED])))


class Arrivals:
    """The newest runs of one partition. For the thread that polls."""

    def __init__(self) -> None:
        self._runs: list[PolledRun] = []
        self._records = 0
        #: How many runs had arrived when the last question was asked, and when the last answered one was.
        self._asked = 0
        self._answered = 0

    def add(self, records: Sequence[Record]) -> None:
        """`records` arrived together; they are in offset order."""
        first, last = records[0], records[-1]
        contiguous = last.offset - first.offset + 1 == len(records)
        offsets = range(first.offset, last.offset + 1) if contiguous else array("q", map(_OFFSET, records))
        begins = mark_of(first)
        ends = begins if last is first else mark_of(last)
        self._runs.append(PolledRun(offsets, array("q", map(_TIMESTAMP, records)), begins, ends))
        self._records += len(records)
        if len(self._runs) > _MOST_RUNS or self._records > _MOST_RECORDS:
            self._forget((len(self._runs) + 1) // 2)

    def ask(self) -> None:
        """The cluster is asked for the topic's id now."""
        self._asked = len(self._runs)

    def verify(self) -> None:
        """The answer to `ask` is the id as before.

        A broker may answer from metadata that is a moment old, so what arrived between the last two questions stays.
        """
        forgotten, self._answered = self._answered, self._asked
        self._forget(forgotten)

    def _forget(self, runs: int) -> None:
        self._records -= sum(len(run.timestamps) for run in self._runs[:runs])
        del self._runs[:runs]
        self._asked, self._answered = max(0, self._asked - runs), max(0, self._answered - runs)

    @property
    def first(self) -> int | None:
        """The first offset that `part` can compare; None when nothing is kept."""
        return self._runs[0].offsets[0] if self._runs else None

    def part(self, log: Mapping[int, Mark]) -> int | None:
        """The offset from which on all that arrived is in the new `log`; None when not even the last record is."""
        found: int | None = None
        for run in reversed(self._runs):
            if log.get(run.offsets[-1]) != run.last:
                return found
            start = _same_from(run, log)
            if start == 0 and log.get(run.offsets[0]) == run.first:
                found = run.offsets[0]
                continue
            # Where equal timestamps prove nothing (they may be anybody's), a run counts as a whole or not at all.
            return run.offsets[start] if start > 0 and _ascending(run.timestamps) else found
        return found


def _same_from(run: PolledRun, log: Mapping[int, Mark]) -> int:
    """The index from which on every record of `run` has the timestamp that `log` has at its offset."""
    index = len(run.offsets)
    while index > 0:
        mark = log.get(run.offsets[index - 1])
        if mark is None or mark[0] != run.timestamps[index - 1]:
            break
        index -= 1
    return index


def _ascending(timestamps: array[int]) -> bool:
    """Whether the times are those of a clock that goes on: so records of two logs do not share them."""
    return all(a <= b for a, b in pairwise(timestamps)) and timestamps[0] < timestamps[-1]
