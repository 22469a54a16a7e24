"""What can be known of the next events before any of their handlers runs: they are looked at many at a time.

For a hundred events one after the other, each step finds its own code and data in the processor's caches; for one event
through all steps it does not. So the bytes of a few events are decoded, then all values validated, then all ids looked
up. What is odd about one of them is not said: then fewer are looked at, until those before it are left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from orjson import loads

from orchestrator.contracts import decode_json
from orchestrator.contracts.codec import SHALLOW
from orchestrator.delivery.dedup import event_id_of, first_of
from orchestrator.delivery.pending import EventId
from orchestrator.records import Record

#: Events that are looked at together at most, and bytes of all their values if there is more than one.
MOST_EVENTS, MOST_BYTES = 100, 1_000_000

#: The values of some events, and what dedup knows them by (None: nothing).
Known = tuple[list[Any], Sequence[EventId | None]]

_value = itemgetter(5)


class Lookahead:
    """How far one partition's next events are looked at. Trouble among them makes that less, its absence more."""

    def __init__(self, by: str | None) -> None:
        """`by` is the member that has an event's id; None: there is no deduplication."""
        self._by = by
        self._size = 1

    def take(self, fresh: deque[Record], most: int) -> list[Record]:
        """The next ones, at most `most`. Not by iterating: another thread appends."""
        return list(map(fresh.__getitem__, range(min(len(fresh), most, self._size))))

    def went(self, *, well: bool) -> None:
        """All that was taken ran and ended well, or not all."""
        self._size = min(2 * self._size, MOST_EVENTS) if well else 1

    def known(
        self,
        records: list[Record],
        valid: Callable[[Any], bool] | None,
        taken: Sequence[Mapping[int, object]],
        running: Mapping[EventId, object],
    ) -> Known:
        """Of the first of `records`, as many as are plainly good: JSON that is `valid`, with ids that are new for sure.

        `taken` are the tables of dedup, `running` the ids of events that have run and are not settled.
        """
        while records:
            found = self._all(records, valid, taken, running)
            if found is not None:
                return found
            records = records[: len(records) // 2]
        return [], []

    def _all(
        self,
        records: list[Record],
        valid: Callable[[Any], bool] | None,
        taken: Sequence[Mapping[int, object]],
        running: Mapping[EventId, object],
    ) -> Known | None:
        """The same for all of them, or None."""
        raws = list(map(_value, records))
        try:
            shallow = max(map(len, raws)) <= SHALLOW  # TypeError: a tombstone
            if not shallow and len(records) > 1 and sum(map(len, raws)) > MOST_BYTES:
                return None
            values = list(map(loads if shallow else decode_json, raws))
            if not (valid is None or all(map(valid, values))):
                return None
        except (ValueError, TypeError):
            return None
        if self._by is None:
            return values, [None] * len(values)
        event_ids, firsts = _ids(values, self._by)
        there = set(event_ids)
        there.discard(None)
        if len(there) < len(firsts) or not running.keys().isdisjoint(there):
            return None
        for table in taken:
            if not table.keys().isdisjoint(firsts):
                return None
        return values, event_ids


def _ids(values: list[Any], by: str) -> tuple[Sequence[EventId | None], list[int]]:
    """The ids of events, and `first_of` those that have one."""
    try:
        texts = [value[by] for value in values]
        if set(map(type, texts)) == {str}:
            return texts, [hash(text) >> 3 for text in texts]
    except (LookupError, TypeError):
        pass  # one is no object, or without an id
    event_ids = [event_id_of(value, by) for value in values]
    return event_ids, [first_of(event_id) for event_id in event_ids if event_id is not None]
