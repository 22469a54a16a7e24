"""The last N records of a topic as a whole, though its log is split into partitions and can be read forward only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from orchestrator.records import Record, TopicPartition

#: How much further back each look goes than the one before.
_GROWTH = 4
#: A filter lets few records through: look at this many of each partition at first.
_FILTERED_WINDOW = 1_000


class Reads(Protocol):
    """What is needed of `kafka.reader.Reader`."""

    def read(
        self, starts: Mapping[TopicPartition, int], stops: Mapping[TopicPartition, int]
    ) -> Iterator[list[Record]]: ...


def latest(
    reader: Reads,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    count: int,
    wanted: Callable[[Record], bool] | None = None,
) -> list[Record]:
    """The last `count` records that are `wanted` between `begins` and `ends`, oldest first.

    Windows before the end are read, each larger than the one before, until every partition gave `count` or is
    exhausted: offsets have gaps (compaction, transactions), so that many offsets can be fewer records. Holds at
    most `count` records of each partition.
    """
    kept: dict[TopicPartition, list[Record]] = {tp: [] for tp in begins}
    unread = {tp: ends[tp] for tp in begins if count and begins[tp] < ends[tp]}
    size = count if wanted is None else max(count, _FILTERED_WINDOW)
    while unread:
        starts = {tp: max(begins[tp], stop - size) for tp, stop in unread.items()}
        found = {tp: deque[Record](maxlen=count - len(kept[tp])) for tp in unread}
        for batch in reader.read(starts, unread):
            for record in batch:
                if wanted is None or wanted(record):
                    found[TopicPartition(record.topic, record.partition)].append(record)
        kept |= {tp: [*found[tp], *kept[tp]] for tp in unread}
        unread = {tp: at for tp, at in starts.items() if at > begins[tp] and len(kept[tp]) < count}
        size *= _GROWTH
    return newest(kept.values(), count)


def newest(partitions: Iterable[list[Record]], count: int) -> list[Record]:
    """The last `count` of several logs by timestamp, oldest first, with every log's own order kept.

    Timestamps come from producers and need not grow with the offset, so this is a merge and not a sort.
    """
    rest = [list(log) for log in partitions if log]
    picked: list[Record] = []
    while rest and len(picked) < count:
        log = max(rest, key=lambda log: (log[-1].timestamp, log[-1].topic, log[-1].partition))
        picked.append(log.pop())
        if not log:
            rest = [log for log in rest if log]
    return picked[::-1]
