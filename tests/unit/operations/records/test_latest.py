"""The last N of a topic: against the simplest possible model of logs with gaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.operations.records.latest import latest, newest
from orchestrator.records import Record, TopicPartition

Log = list[Record]


def record(partition: int, offset: int, timestamp: int, key: bytes | None = None) -> Record:
    return Record("t", partition, offset, timestamp, key, b"", ())


class Logs:
    """Partitions in memory; `read` gives what lies between two offsets, in small batches."""

    def __init__(self, logs: Mapping[TopicPartition, Log]) -> None:
        self.logs = logs
        self.read_records = 0

    def read(self, starts: Mapping[TopicPartition, int], stops: Mapping[TopicPartition, int]) -> Iterator[list[Record]]:
        for tp, start in starts.items():
            found = [r for r in self.logs[tp] if start <= r.offset < stops[tp]]
            self.read_records += len(found)
            yield found[:2]
            yield []
            yield found[2:]


@st.composite
def logs(draw: st.DrawFn) -> dict[TopicPartition, Log]:
    made = {}
    for partition in range(draw(st.integers(1, 3))):
        gaps = draw(st.lists(st.integers(1, 40), max_size=25))
        offset, log = draw(st.integers(0, 5)), []
        for gap in gaps:
            key = draw(st.sampled_from([None, b"a", b"b"]))
            log.append(record(partition, offset, draw(st.integers(0, 50)), key))
            offset += gap
        made[TopicPartition("t", partition)] = log
    return made


def bounds(made: Mapping[TopicPartition, Log], slack: int) -> tuple[dict[TopicPartition, int], ...]:
    begins = {tp: log[0].offset if log else 7 for tp, log in made.items()}
    ends = {tp: log[-1].offset + 1 + slack if log else 7 for tp, log in made.items()}
    return begins, ends


@given(logs(), st.integers(0, 12), st.integers(0, 30), st.booleans())
def test_the_last_are_found_across_gaps_and_partitions(
    made: dict[TopicPartition, Log], count: int, slack: int, only_a: bool
) -> None:
    begins, ends = bounds(made, slack)

    def wanted(r: Record) -> bool:
        return not only_a or r.key == b"a"

    found = latest(Logs(made), begins, ends, count, wanted if only_a else None)
    every = {tp: [r for r in log if wanted(r)] for tp, log in made.items()}
    assert len(found) == min(count, sum(map(len, every.values())))
    for tp, log in every.items():
        mine = [r for r in found if r.partition == tp.partition]
        assert mine == log[len(log) - len(mine) :], "the newest of every partition, in its order"


@given(logs(), st.integers(1, 12))
def test_in_order_of_time_where_partitions_agree_with_it(made: dict[TopicPartition, Log], count: int) -> None:
    straight = {tp: [r._replace(timestamp=r.offset * 3 + tp.partition) for r in log] for tp, log in made.items()}
    found = latest(Logs(straight), *bounds(straight, 0), count)
    by_time = sorted((r for log in straight.values() for r in log), key=lambda r: (r.timestamp, r.partition))
    assert [r.timestamp for r in found] == [r.timestamp for r in by_time[-count:]]


def test_a_dense_log_is_not_read_from_its_beginning() -> None:
    tp = TopicPartition("t", 0)
    made = Logs({tp: [record(0, offset, offset) for offset in range(10_000)]})
    assert [r.offset for r in latest(made, {tp: 0}, {tp: 10_000}, 3)] == [9_997, 9_998, 9_999]
    assert made.read_records == 3


def test_a_partition_keeps_its_order_though_its_clock_went_back() -> None:
    back = [record(0, 0, 100), record(0, 1, 5)]
    other = [record(1, 0, 50), record(1, 1, 60)]
    assert [(r.partition, r.offset) for r in newest([back, other], 3)] == [(0, 1), (1, 0), (1, 1)]
    found = newest([back, other], 4)
    assert [r.offset for r in found if r.partition == 0] == [0, 1]
    assert [r.offset for r in found if r.partition == 1] == [0, 1]
