"""When the thread that polls lets a full partition be, and when it pauses it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from orchestrator.delivery.checkpoint import Checkpoint
from orchestrator.delivery.frontier import Frontier
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.tally import Tally
from orchestrator.records import Record, TopicPartition
from tests.support.simulation import Life, World

FULL = 10_000


class Pausing:
    """A consumer that notes what is paused."""

    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= set(partitions)


def member(*arrived: int) -> tuple[Life, list[Partition], Pausing]:
    """A worker with a partition for each number, and as many events in flight there."""
    life = Life(World())
    consumer: Any = Pausing()
    life.intake._consumer = consumer
    parts = [Partition(TopicPartition("in", number), "in", Checkpoint(0), None) for number in range(len(arrived))]
    for part, count in zip(parts, arrived, strict=True):
        life.ledger.open(part, None)
        life.ledger.receive([Record("in", part.tp.partition, n, 0, None, b"{}", ()) for n in range(count)])
    return life, parts, consumer


def settle(life: Life, part: Partition, count: int) -> None:
    life.ledger.begin(part)
    settled = [part.fresh.popleft() for _ in range(count)]
    life.ledger.finish(part, settled, Tally(count), partial(Frontier.advance, position=settled[-1].offset + 1))


def test_a_full_partition_that_is_worked_off_at_once_is_not_paused() -> None:
    life, (full, other), consumer = member(FULL, 10)
    hand = threading.Timer(0.01, settle, (life, full, FULL // 2 + 1))
    hand.start()
    life.intake._admit()
    hand.join()
    assert consumer.paused == set() and full.in_flight < FULL // 2 and other.in_flight == 10


def test_one_that_is_not_is_paused_until_half_of_it_is_done() -> None:
    life, (full, _), consumer = member(FULL, 10)
    life.intake._admit()
    assert consumer.paused == {full.tp}
    settle(life, full, FULL // 2)
    life.intake._admit()
    assert consumer.paused == {full.tp}
    settle(life, full, 1)
    life.intake._admit()
    assert consumer.paused == set()


def test_nobody_waits_where_another_partition_has_nothing_to_run(monkeypatch: Any) -> None:
    monkeypatch.setattr("orchestrator.worker.intake.HOLD_SECONDS", 60.0)
    life, (full, _), consumer = member(FULL, 0)
    life.intake._admit()
    assert consumer.paused == {full.tp}
