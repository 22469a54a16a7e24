"""Which event ids are taken, so that a copy is skipped. DESIGN section 5, step 4.

Rules:
- An id is taken once its event settled, never before: what is in progress is not taken.
- A copy counts within `window` of record time (not of the clock), so that a replay decides as the first run did.
- Time is kept in slices of a quarter of the window. An id is remembered for the window, and at most a slice longer.
- Slices go in the order in which they came, so that one event with a time far ahead does not make the others forgotten.
- Memory is bounded: at the limit the oldest slice goes, and the ids that went before their window ended are counted.

An id is kept as 120 bits of two hashes and a byte of its payload's: 80 to 100 bytes of memory whatever the id's length.
Two ids that share all 120 bits would be one; among ten million of them the chance is below 10^-22.
"""

from __future__ import annotations

from typing import Any, Literal

from orchestrator.delivery.pending import EventId

Seen = Literal["new", "copy", "other-payload"]

#: Slices of the window; each one kept is a dict look-up for every event that is no copy.
_SLICES = 4
#: Slices that are kept: those of the window, the one being filled, and one for times that are out of order.
_KEPT = _SLICES + 2
_LOW = (1 << 60) - 1


def event_id_of(value: Any, by: str) -> EventId | None:
    """The id in `value`'s field `by`; None where there is none to speak of (then nothing is deduplicated)."""
    if type(value) is not dict:
        return None
    found = value.get(by)
    return found if type(found) is str or type(found) is int else None


class Dedup:
    """The taken ids of one partition. Times are milliseconds; `payload` is any hash of the event's bytes."""

    __slots__ = ("_count", "_limit", "_slices", "_width", "evicted")

    def __init__(self, window: int, limit: int = 2_000_000) -> None:
        self._width = max(1, -(-window // _SLICES))
        self._limit = limit
        #: number of the slice (time // width) -> {id: byte of the payload's hash}
        self._slices: dict[int, dict[int, int]] = {}
        self._count = 0
        self.evicted = 0

    def __len__(self) -> int:
        return self._count

    def look(self, event_id: EventId, timestamp: int, payload: int) -> Seen:
        """Whether an event of this id settled within the window of `timestamp`."""
        if not self._slices:
            return "new"
        key = _key(event_id)
        now = timestamp // self._width
        for number, taken in self._slices.items():
            if key in taken and abs(number - now) <= _SLICES:
                return "copy" if taken[key] == payload & 0xFF else "other-payload"
        return "new"

    def take(self, event_id: EventId, timestamp: int, payload: int) -> None:
        """The event of this id settled."""
        number = timestamp // self._width
        taken = self._slices.get(number)
        if taken is None:
            taken = self._slices[number] = {}
            self._forget(number)
        before = len(taken)
        taken[_key(event_id)] = payload & 0xFF
        self._count += len(taken) - before
        if self._count > self._limit and len(self._slices) > 1:
            self._drop(number)

    def _forget(self, now: int) -> None:
        """A slice began: the one that came first goes when there are too many."""
        while len(self._slices) > _KEPT:
            self._drop(now)

    def _drop(self, now: int) -> None:
        number = next(iter(self._slices))
        dropped = len(self._slices.pop(number))
        self._count -= dropped
        if abs(number - now) <= _SLICES:
            self.evicted += dropped


def _key(event_id: EventId) -> int:
    """120 bits: of the id's hash and of another text's hash that contains the id, 60 each."""
    return (hash(event_id) & _LOW) << 60 | hash(f"\0{event_id!r}") & _LOW
