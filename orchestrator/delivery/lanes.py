"""The lanes of one partition that cannot move on: each keeps the order of its key while the others flow.

Rules (DESIGN section 5, steps 6 and 13):
- A lane exists only while an event in it is unsettled after its first pass; the happy path has no lanes.
- Whoever's lane exists queues behind it. The head alone may run; it is due at `due`.
- A null key's lane is its partition's null lane: events without a key are ordered among themselves.
- A copy of an event that is still in progress waits at the head of its own lane until the original settled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Literal

from orchestrator.delivery.pending import EventId, Pending
from orchestrator.records import Record

Ordering = Literal["key", "partition", "none"]


def lane_of(record: Record, ordering: Ordering) -> Hashable:
    """The lane of `record` within its partition."""
    if ordering == "key":
        return record.key
    return None if ordering == "partition" else record.offset


class Lane:
    """The unsettled events of one key, in order of offset. `due` is when the head may run (any monotonic clock)."""

    __slots__ = ("due", "key", "queue")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.queue: deque[Pending] = deque()
        self.due = 0.0


class Lanes:
    """All blocked lanes of a partition, and which of them is due next."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, Lane] = {}
        #: event id -> its lane's key and how many events of that id wait there
        self._in_progress: dict[EventId, tuple[Hashable, int]] = {}
        self._due: list[tuple[float, int, Lane]] = []
        self._ties = count()

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, key: Hashable) -> Lane | None:
        return self._lanes.get(key)

    def free(self, keys: Sequence[Hashable]) -> int:
        """How many of these, from the first on, have no lane, and are no repetition."""
        if len(set(keys)) == len(keys) and self._lanes.keys().isdisjoint(keys):
            return len(keys)
        seen: set[Hashable] = set()
        for number, key in enumerate(keys):
            if key in seen or key in self._lanes:
                return number
            seen.add(key)
        return len(keys)

    @property
    def ids(self) -> Mapping[EventId, object]:
        """The ids of the events in lanes."""
        return self._in_progress

    def lane_in_progress(self, event_id: EventId) -> Lane | None:
        """The lane in which an event of that id is still unsettled."""
        found = self._in_progress.get(event_id)
        return None if found is None else self._lanes.get(found[0])

    def heads(self) -> list[Record]:
        """The first event of each lane, as another thread may ask for them at any time."""
        queues = [list(lane.queue) for lane in list(self._lanes.values())]
        return [queue[0].record for queue in queues if queue]

    def append(self, lane: Lane, pending: Pending) -> None:
        """Queue behind an existing lane."""
        lane.queue.append(pending)
        self._note(lane, pending)

    def block(self, key: Hashable, pendings: Iterable[Pending], due: float) -> Lane:
        """Put `pendings` (in order of offset) at the front of their lane, which is next due at `due`."""
        lane = self._lanes.setdefault(key, Lane(key))
        for pending in reversed(list(pendings)):
            lane.queue.appendleft(pending)
            self._note(lane, pending)
        self.set_due(lane, due)
        return lane

    def begin(self, keys: Sequence[Hashable], pendings: Sequence[Pending]) -> list[Lane]:
        """Lanes of one event each, which runs. Those of `keys` are `free`, and no id is in progress or there twice."""
        lanes = list(map(Lane, keys))
        self._lanes.update(zip(keys, lanes, strict=True))
        for lane, pending in zip(lanes, pendings, strict=True):
            lane.queue.append(pending)
            lane.due = inf
            if pending.event_id is not None:
                self._in_progress[pending.event_id] = (lane.key, 1)
        return lanes

    def set_due(self, lane: Lane, due: float) -> None:
        """When the head may run; infinity for a head that runs, which nobody waits for here."""
        lane.due = due
        if due != inf:
            heappush(self._due, (due, next(self._ties), lane))

    def next_due(self) -> float | None:
        """When the first head may run; None when no lane waits."""
        while self._due:
            due, _, lane = self._due[0]
            if self._lanes.get(lane.key) is lane and lane.due == due:
                return due
            heappop(self._due)
        return None

    def pop_due(self, now: float) -> Lane | None:
        """The lane whose head may run now. Whoever takes it says `set_due` or settles it empty afterwards."""
        due = self.next_due()
        if due is None or due > now:
            return None
        return heappop(self._due)[2]

    def settle_head(self, lane: Lane) -> Pending:
        """The head is settled: the next one in the lane moves up; an empty lane is gone."""
        pending = lane.queue[0]
        self.settle_heads([lane])
        return pending

    def settle_heads(self, lanes: Iterable[Lane]) -> list[Lane]:
        """The head of each is settled; which of them have another one."""
        left = []
        for lane in lanes:
            self._forget(lane, lane.queue.popleft())
            if lane.queue:
                left.append(lane)
            else:
                self._lanes.pop(lane.key, None)
        return left

    def _note(self, lane: Lane, pending: Pending) -> None:
        if pending.event_id is not None:
            key, copies = self._in_progress.get(pending.event_id, (lane.key, 0))
            if key == lane.key:
                self._in_progress[pending.event_id] = (key, copies + 1)

    def _forget(self, lane: Lane, pending: Pending) -> None:
        if pending.event_id is None:
            return
        key, copies = self._in_progress.get(pending.event_id, (None, 0))
        if copies and key == lane.key:
            if copies > 1:
                self._in_progress[pending.event_id] = (key, copies - 1)
            else:
                del self._in_progress[pending.event_id]
