"""Which event ids are taken, so that a copy is skipped. DESIGN section 5, step 4.

Rules:
- An id is taken once its event settled, never before: what is in progress is not taken.
- A copy counts within `window` of record time (not of the clock), so that a replay decides as the first run did.
- Time is kept in slices of half the window. An id is remembered for the window, and at most a slice longer.
- Slices go in the order in which they came, so that one event with a time far ahead does not make the others forgotten.
- Memory is bounded: at the limit the oldest ids go, a quarter of all; those whose window had not ended are counted.

An id is kept as 120 bits of two hashes and a byte of its payload's (`ids.py`): about 20 bytes, whatever its length.
Two ids that share all 120 bits would be one; among ten million of them the chance is below 10^-22.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Literal

from orchestrator.delivery.ids import KEY, Ids
from orchestrator.delivery.pending import EventId

Seen = Literal["new", "copy", "other-payload"]
#: See `key_of`.
Key = tuple[bytes, int]

#: Slices of the window; each one kept is a look-up for every event that is no copy.
_SLICES = 2
#: Slices that are kept: those of the window, the one being filled, and one for times that are out of order.
_KEPT = _SLICES + 2
#: At the limit a part of this size goes at once: the oldest.
_CHUNKS = 4
_TWO_HASHES = Struct("<qq")


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

    def knows(self, of: Key) -> bool:
        """Whether an event of the id with this key settled at all: if not, it is "new" to `look` as well."""
        key, low = of
        for _, taken in self._chunks:  # noqa: SIM110 - a generator costs more than all of this
            if taken.get(key, low) is not None:
                return True
        return False

    def look(self, event_id: EventId, timestamp: int, payload: int) -> Seen:
        """Whether an event of this id settled within the window of `timestamp`."""
        if not self._chunks:
            return "new"
        key, low = key_of(event_id)
        now = timestamp // self._width
        for number, taken in self._chunks:
            found = taken.get(key, low)
            if found is not None and abs(number - now) <= _SLICES:
                return "copy" if found == payload & 0xFF else "other-payload"
        return "new"

    def take(self, event_id: EventId, timestamp: int, payload: int, key: Key | None = None) -> None:
        """The event of this id settled. `key` is `key_of(event_id)` where that is known."""
        number = timestamp // self._width
        taken = self._open.get(number)
        if taken is None or len(taken) * _CHUNKS >= self._limit:
            taken = self._open[number] = Ids()
            self._chunks.append((number, taken))
            self._forget(number)
        before = len(taken)
        taken.put(*(key or key_of(event_id)), payload & 0xFF)
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


def key_of(event_id: EventId) -> Key:
    """120 bits, and the lowest 32 of them: of the id's hash, and of another text's that contains the id."""
    first = hash(event_id)
    other = event_id + "\0" if type(event_id) is str else f"\0{event_id!r}"
    return _TWO_HASHES.pack(first, hash(other))[:KEY], first & 0xFFFF_FFFF
