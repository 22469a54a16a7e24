"""Which event ids are taken, so that a copy is skipped. DESIGN section 5, step 4.

Rules:
- An id is taken once its event settled, never before: what is in progress is not taken.
- A copy counts within `window` of record time (not of the clock), so that a replay decides as the first run did.
- Time is kept in slices of half the window. An id is remembered for the window, and at most a slice longer.
- Slices go in the order in which they came, so that one event with a time far ahead does not make the others forgotten.
- Memory is bounded: at the limit the oldest ids go, a quarter of all; those whose window had not ended are counted.

An id is kept as 125 bits of two hashes (`ids.py`). Two ids that share them would be one; among ten million of them the
chance is below 10^-20.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from operator import itemgetter
from struct import Struct
from typing import Any, Literal

from orchestrator.delivery.ids import WIDTH, Ids
from orchestrator.delivery.pending import EventId
from orchestrator.records import Record

Seen = Literal["new", "copy", "other-payload"]

#: Slices of the window; each one kept is a look-up for every event that is no copy.
_SLICES = 2
#: Slices that are kept: those of the window, the one being filled, and one for times that are out of order.
_KEPT = _SLICES + 2
#: At the limit a part of this size goes at once: the oldest.
_CHUNKS = 4
_HASH = Struct("=q")
#: Before a text it makes another one, with another hash.
_OTHER = "\0"
_before: Any = _OTHER.__add__
_timestamp, _value = itemgetter(3), itemgetter(5)


def event_id_of(value: Any, by: str) -> EventId | None:
    """The id in `value`'s field `by`; None where there is none to speak of (then nothing is deduplicated)."""
    if type(value) is not dict:
        return None
    found = value.get(by)
    return found if type(found) is str or type(found) is int else None


class Dedup:
    """The taken ids of one partition. Times are milliseconds; `payload` is any hash of the event's bytes."""

    __slots__ = ("_chunks", "_count", "_limit", "_open", "_width", "evicted")

    def __init__(self, window: int, limit: int = 2_000_000) -> None:
        self._width = max(1, -(-window // _SLICES))
        self._limit = limit
        #: Number of the slice (time // width) and ids of it, each with a byte of its payload's hash; oldest first.
        self._chunks: list[tuple[int, Ids]] = []
        #: The chunk of each slice that takes more.
        self._open: dict[int, Ids] = {}
        self._count = 0
        self.evicted = 0

    def __len__(self) -> int:
        return self._count

    def tables(self) -> tuple[Mapping[int, object], ...]:
        """An event whose id's `first_of` is in none of them is "new". Good until the next `take`."""
        return tuple(taken.firsts for _, taken in self._chunks)

    def look(self, event_id: EventId, timestamp: int, payload: int) -> Seen:
        """Whether an event of this id settled within the window of `timestamp`."""
        if not self._chunks:
            return "new"
        first, second, number = first_of(event_id), _second_of(event_id), _HASH.pack(payload)[0]
        now = timestamp // self._width
        for of, taken in self._chunks:
            found = taken.get(first, second)
            if found is not None and abs(of - now) <= _SLICES:
                return "copy" if found == number else "other-payload"
        return "new"

    def take(self, event_id: EventId, timestamp: int, payload: int) -> None:
        """The event of this id settled."""
        self._put(timestamp // self._width, [first_of(event_id)], _second_of(event_id), _HASH.pack(payload)[:1])

    def take_all(self, events: Mapping[EventId, Record]) -> None:
        """These settled; the payload is the hash of a record's value. A third of what `take` costs for each."""
        if not events:
            return
        records = events.values()
        times = set(map(_timestamp, records))
        number = min(times) // self._width
        seconds = _seconds_of(events)
        if seconds is None or number != max(times) // self._width:
            for event_id, record in events.items():
                self.take(event_id, record.timestamp, hash(record.value))
            return
        payloads = array("q", map(hash, map(_value, records))).tobytes()[::WIDTH]
        self._put(number, [hash(event_id) >> 3 for event_id in events], seconds, payloads)

    def _put(self, number: int, firsts: list[int], seconds: bytes, payloads: bytes) -> None:
        taken = self._open.get(number)
        if taken is None or len(taken) * _CHUNKS >= self._limit:
            taken = self._open[number] = Ids()
            self._chunks.append((number, taken))
            self._forget(number)
        before = len(taken)
        taken.put(firsts, seconds, payloads)
        self._count += len(taken) - before
        if self._count > self._limit:
            self._drop(number)

    def _forget(self, now: int) -> None:
        """A chunk began: the one that came first goes while there are too many slices."""
        while len({number for number, _ in self._chunks}) > _KEPT:
            self._drop(now)

    def _drop(self, now: int) -> None:
        number, dropped = self._chunks.pop(0)
        if self._open.get(number) is dropped:
            del self._open[number]
        self._count -= len(dropped)
        if abs(number - now) <= _SLICES:
            self.evicted += len(dropped)


def first_of(event_id: EventId) -> int:
    """61 bits of the id's hash."""
    # A number's own hash is the number.
    return hash(event_id if type(event_id) is str else f"\0\0{event_id}") >> 3


def _seconds_of(event_ids: Iterable[EventId]) -> bytes | None:
    """`_second_of` all, side by side; None unless all of them are texts. No line of Python runs for each."""
    try:
        return array("q", map(hash, map(_before, event_ids))).tobytes()
    except TypeError:
        return None


def _second_of(event_id: EventId) -> bytes:
    """64 bits of the hash of another text that contains the id."""
    return _HASH.pack(hash(_OTHER + event_id if type(event_id) is str else f"{event_id}\0"))
