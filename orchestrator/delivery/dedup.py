"""Which event ids are taken, so that a copy is skipped. DESIGN section 5, step 4.

Rules:
- An id is taken once its event settled, never before: what is in progress is not taken.
- A copy counts only within `window` of record time (not of the clock), so that a replay decides as the first run.
- Memory is bounded: the oldest ids go first, and every id that went before its window ended is counted.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from orchestrator.delivery.pending import EventId

Seen = Literal["new", "copy", "other-payload"]


def event_id_of(value: Any, by: str) -> EventId | None:
    """The id in `value`'s field `by`; None where there is none to speak of (then nothing is deduplicated)."""
    if type(value) is not dict:
        return None
    found = value.get(by)
    return found if type(found) is str or type(found) is int else None


class Dedup:
    """The taken ids of one partition. Times are milliseconds; `payload` is any hash of the event's bytes."""

    __slots__ = ("_limit", "_order", "_taken", "_window", "evicted")

    def __init__(self, window: int, limit: int = 1_000_000) -> None:
        self._window = window
        self._limit = limit
        self._taken: dict[EventId, tuple[int, int]] = {}
        self._order: deque[tuple[EventId, int]] = deque()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._taken)

    def look(self, event_id: EventId, timestamp: int, payload: int) -> Seen:
        """Whether an event of this id was settled within the window."""
        taken = self._taken.get(event_id)
        if taken is None or abs(timestamp - taken[0]) > self._window:
            return "new"
        return "copy" if taken[1] == payload else "other-payload"

    def take(self, event_id: EventId, timestamp: int, payload: int) -> None:
        """The event of this id settled."""
        self._taken[event_id] = (timestamp, payload)
        self._order.append((event_id, timestamp))
        self._forget(timestamp - self._window)

    def _forget(self, before: int) -> None:
        """Drop what no window reaches any more, and what is over the limit. Amortized: two at most a call."""
        for _ in range(2):
            event_id, timestamp = self._order[0]
            over = len(self._order) > self._limit
            if timestamp >= before and not over:
                return
            self._order.popleft()
            if self._taken.get(event_id, (None,))[0] == timestamp:
                del self._taken[event_id]
                self.evicted += timestamp >= before
