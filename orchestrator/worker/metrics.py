"""A worker's metrics: what was counted, and how things stand now. Runs once a second, in the thread that polls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from orchestrator.delivery.partition import Partition
from orchestrator.observe.measured import Measured, OwnedPartition
from orchestrator.observe.meter import Meter
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.engine.flow_control import FlowControl

_BREAKER = {"closed": 0, "half-open": 1, "open": 2}


class WorkerMetrics:
    """Reads what the two threads know. `running` gives an event that runs, if one does."""

    def __init__(
        self,
        meter: Meter,
        ledger: Assignments,
        guard: FlowControl,
        running: Callable[[], Record | None],
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], float] = time.time,
    ) -> None:
        self._meter, self._ledger, self._guard, self._running = meter, ledger, guard, running
        self._clock, self._today = clock, today
        #: Where the frontier of each partition was when it was last seen to move, and when that was.
        self._moved: dict[TopicPartition, tuple[int, float]] = {}
        self._seen: dict[int, int] = {}
        self._evicted = 0

    def measured(self, paused: int) -> Measured:
        """`paused` is how many partitions are paused."""
        meter, settled = self._meter, self._ledger.settled
        _, flying = self._ledger.totals()
        counts = {
            "kpipe_records_total": {
                "done": settled.done, "dead_lettered": settled.dead_lettered, "skipped": settled.skipped,
            },
            "kpipe_attempts_total": {"ok": meter.ok, **meter.failed},
            "kpipe_dlq_total": dict(meter.letters),
            "kpipe_dlq_truncated_total": {"": meter.letters_cut},
            "kpipe_dlq_publish_failures_total": {"": meter.letters_refused},
            "kpipe_dedup_hits_total": {"": meter.copies},
            "kpipe_dedup_evictions_total": {"": self._evictions()},
            "kpipe_offsets_lost_total": {"": meter.offsets_lost},
        }  # fmt: skip
        halted = self._guard.halted
        gauges = {
            "kpipe_inflight": {"": flying},
            "kpipe_paused": {"breaker": paused if halted else 0, "full": 0 if halted else paused},
            "kpipe_breaker_state": {"": _BREAKER[self._guard.state]},
        }
        return Measured(counts, gauges, tuple(meter.buckets), meter.seconds)

    def _evictions(self) -> int:
        """Of all partitions that this process has had: the count of one goes with its epoch."""
        dedups = {id(part.dedup): part.dedup.evicted for part in self._ledger.partitions if part.dedup is not None}
        self._evicted += sum(now - self._seen.get(key, 0) for key, now in dedups.items())
        self._seen = dedups
        return self._evicted

    def places(self, lags: Mapping[TopicPartition, int | None]) -> list[OwnedPartition]:
        """Every owned partition, and what this process did of those that it owned before."""
        parts = {part.tp: part for part in self._ledger.partitions}
        records = self._ledger.settled_of
        self._moved = {tp: moved for tp, moved in self._moved.items() if tp in parts}
        return [self._place(part, records.get(tp, 0), lags.get(tp)) for tp, part in parts.items()]

    def _place(self, part: Partition, records: int, lag: int | None) -> OwnedPartition:
        at = part.frontier.committable
        behind = max(0, part.received - at)
        return OwnedPartition(
            part.topic, part.tp.partition, records, lag,
            0.0 if lag == 0 else self._oldest(part, at), behind, self._stood(part.tp, at, behind),
        )  # fmt: skip

    def _stood(self, tp: TopicPartition, at: int, behind: int) -> float:
        """Seconds since the frontier moved, 0 while nothing is waited for."""
        now = self._clock()
        was, since = self._moved.get(tp, (-1, now))
        if was != at or not behind:
            self._moved[tp] = (at, now)
            return 0.0
        return round(now - since, 3)

    def _oldest(self, part: Partition, at: int) -> float | None:
        """How old the oldest event is that waits; None when none of them is here, or it has no timestamp."""
        here = [*part.lanes.heads(), *list(part.fresh)[:1]]
        running = self._running()
        if running is not None and (running.topic, running.partition) == part.tp and running.offset >= at:
            here.append(running)
        oldest = min(here, key=lambda record: record.offset, default=None)
        if oldest is None or oldest.timestamp < 0:
            return None
        return max(0.0, round(self._today() - oldest.timestamp / 1000, 3))
