"""Dedup without a store: what was settled stands in the partition's own log. DESIGN section 5, step 4.

Before the first event of a new epoch runs, the log is read again from one window before the frontier up to it, and
the settled ranges above it; the ids found there are taken, nothing is run. So the ids survive restarts and move with
their partition from machine to machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from orchestrator.config.model import DedupPolicy
from orchestrator.delivery.dedup import first_of
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.pending import EventId
from orchestrator.errors import BrokerError
from orchestrator.kafka.reader import Reader
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.engine.attempts import identify, judge

log = logging.getLogger("kpipe.worker")

#: A cluster that does not answer is asked again after so long (seconds).
AGAIN_SECONDS = 1.0
#: A rebuild that took at least so long is worth a line in the log (seconds).
WORTH_A_LINE = 1.0


class DedupRebuild(threading.Thread):
    """Fills the dedup tables of partitions that were just assigned, then lets their events run."""

    def __init__(
        self,
        parts: Sequence[Partition],
        sources: Mapping[str, Input],
        policy: DedupPolicy,
        ledger: Assignments,
        connect: Callable[[], Reader],
        on_error: Callable[[BaseException], None],
    ) -> None:
        """`on_error` hears what ended the thread early: its partitions will not run then."""
        super().__init__(name="dedup", daemon=True)
        self._parts = {part.tp: part for part in parts}
        self._sources = sources
        self._policy = policy
        self._ledger = ledger
        self._connect = connect
        self._on_error = on_error

    def run(self) -> None:
        try:
            self._rebuild()
        except BaseException as e:  # noqa: BLE001 - handed to the thread that polls, which ends the process with it
            self._on_error(e)

    def _rebuild(self) -> None:
        began = time.monotonic()
        while wanted := {tp: part for tp, part in self._parts.items() if part.rebuilding and not part.ended}:
            try:
                with self._connect() as reader:
                    self._read(reader, wanted)
            except BrokerError as e:
                log.warning("waiting to read back which event ids are taken: %s", e.message)
                time.sleep(AGAIN_SECONDS)
        took = time.monotonic() - began
        if took >= WORTH_A_LINE:
            ids = sum(len(part.dedup) for part in self._parts.values() if part.dedup is not None)
            log.info("read back %d taken event ids in %.1f s", ids, took)

    def _read(self, reader: Reader, wanted: Mapping[TopicPartition, Partition]) -> None:
        starts = self._starts(reader, wanted)
        stops = {tp: _settled_end(part) for tp, part in wanted.items()}
        for records in reader.read({tp: min(starts[tp], stops[tp]) for tp in wanted}, stops):
            for place, some in groupby(records, itemgetter(0, 1)):
                part = wanted[TopicPartition(*place)]
                if not part.ended:
                    register(part, self._sources[part.tp.topic], self._policy, some)
            if all(part.ended for part in wanted.values()):
                return
        for part in wanted.values():
            self._ledger.rebuilt(part)

    def _starts(self, reader: Reader, wanted: Mapping[TopicPartition, Partition]) -> dict[TopicPartition, int]:
        """Where each partition's window begins: reckoned from the record at its frontier, or the last before it."""
        low, high = reader.beginnings(wanted), reader.ends(wanted)
        near = {tp: max(low[tp], part.frontier.committable - 1) for tp, part in wanted.items()}
        starts = dict(near)
        for tp in wanted:
            for records in reader.read({tp: near[tp]}, {tp: max(near[tp], high[tp])}):
                if records:
                    since = records[0].timestamp - int(self._policy.window * 1000)
                    starts[tp] = reader.at_time([tp], since)[tp]
                    break
        return starts


def register(part: Partition, source: Input, policy: DedupPolicy, records: Iterable[Record]) -> None:
    """Take the ids of settled records; one that breaks its contract has none, one that is not settled is left alone."""
    dedup = part.dedup
    if dedup is None:
        return
    new: dict[EventId, Record] = {}
    tables = dedup.tables()
    for record in records:
        if not part.frontier.is_settled(record.offset):
            continue
        found = identify(source, policy, record, judge(source, record))
        if found is None:
            continue
        if found in new:  # whether it counts as a copy depends on their times
            dedup.take_all(new)
            new.clear()
            tables = dedup.tables()
        first = first_of(found)
        known = any(first in table for table in tables)
        if not known or dedup.look(found, record.timestamp, hash(record.value)) == "new":
            new[found] = record
    dedup.take_all(new)


def _settled_end(part: Partition) -> int:
    """The offset behind the last settled one."""
    ranges = part.frontier.settled_above()
    return ranges[-1][1] if ranges else part.frontier.committable
