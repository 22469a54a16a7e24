"""When the thread that polls lets a full partition be, and when it pauses it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.offsets.frontier import Frontier
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.tally import Tally
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.poller import AHEAD_EVENTS
from tests.support.simulation import Life, World

FULL = 10_000


class Pausing:
    """A consumer that notes what is paused."""

    def __init__(self) -> None:
        self.paused: set[TopicPartition] = set()
        self.ends: dict[TopicPartition, int] = {}

    def known_end(self, tp: TopicPartition) -> int | None:
        return self.ends.get(tp)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= set(partitions)


def member(*arrived: int, more: int = 1_000, value: bytes = b"{}") -> tuple[Life, list[Partition], Pausing]:
    """A worker with a partition for each number, and as many events in flight there; `more` are still to come."""
    life = Life(World())
    consumer: Any = Pausing()
    consumer.ends = {TopicPartition("in", number): count + more for number, count in enumerate(arrived)}
    life.intake._consumer = consumer
    parts = [Partition(TopicPartition("in", number), "in", Checkpoint(0), None) for number in range(len(arrived))]
    for part, count in zip(parts, arrived, strict=True):
        life.ledger.open(part, None)
        life.ledger.receive([Record("in", part.tp.partition, n, 0, None, value, ()) for n in range(count)])
    return life, parts, consumer


def settle(life: Life, part: Partition, count: int) -> None:
    life.ledger.begin(part)
    settled = [part.fresh.popleft() for _ in range(count)]
    life.ledger.finish(part, settled, Tally(count), partial(Frontier.advance, position=settled[-1].offset + 1))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds does so until the test times out."""
    monkeypatch.setattr("orchestrator.worker.consume.poller.HOLD_SECONDS", 60.0)


def admitting(life: Life) -> threading.Thread:
    thread = threading.Thread(target=life.intake._admit)
    thread.start()
    return thread


def ended_within(thread: threading.Thread, seconds: float) -> bool:
    thread.join(seconds)
    return not thread.is_alive()


def test_a_full_partition_that_is_worked_off_at_once_is_not_paused() -> None:
    life, (full, other), consumer = member(FULL, 10)
    hand = threading.Timer(0.01, settle, (life, full, FULL // 2 + 1))
    hand.start()
    life.intake._admit()
    hand.join()
    assert consumer.paused == set() and full.in_flight < FULL // 2 and other.in_flight == 10


@pytest.mark.usefixtures("patient")
def test_one_that_is_full_by_bytes_gets_the_same_time() -> None:
    life, (full, _), consumer = member(AHEAD_EVENTS - 1, 1, value=b"x" * 20_000)
    thread = admitting(life)
    assert not ended_within(thread, 0.2)
    settle(life, full, AHEAD_EVENTS // 2)
    assert ended_within(thread, 5) and consumer.paused == set()


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
    monkeypatch.setattr("orchestrator.worker.consume.poller.HOLD_SECONDS", 60.0)
    life, (full, _), consumer = member(FULL, 0)
    life.intake._admit()
    assert consumer.paused == {full.tp}


@pytest.mark.usefixtures("patient")
def test_nothing_is_polled_while_enough_waits_everywhere() -> None:
    life, (low, high), _ = member(AHEAD_EVENTS, 2 * AHEAD_EVENTS)
    thread = admitting(life)
    settle(life, high, 10)
    assert not ended_within(thread, 0.2)
    settle(life, low, 1)
    assert ended_within(thread, 5)


@pytest.mark.usefixtures("patient")
def test_a_partition_of_which_everything_is_here_is_not_hungry() -> None:
    life, (busy, _, _), consumer = member(AHEAD_EVENTS, 0, 10, more=0)
    consumer.ends[busy.tp] += 1
    thread = admitting(life)
    assert not ended_within(thread, 0.2)
    settle(life, busy, 1)
    assert ended_within(thread, 5)


@pytest.mark.usefixtures("patient")
def test_one_whose_end_is_not_known_may_have_more() -> None:
    life, (_, other), consumer = member(AHEAD_EVENTS, 0, more=0)
    del consumer.ends[other.tp]
    life.intake._admit()


@pytest.mark.usefixtures("patient")
def test_markers_behind_the_last_event_are_no_more_events() -> None:
    life, (busy, other), consumer = member(AHEAD_EVENTS, 3, more=0)
    settle(life, other, 3)
    consumer.ends[other.tp] += 1  # the marker of a transaction
    life.ledger.reach_end(other.tp, 4)
    thread = admitting(life)
    assert not ended_within(thread, 0.2)
    consumer.ends[busy.tp] += 1
    settle(life, busy, 1)
    assert ended_within(thread, 5)


@pytest.mark.usefixtures("patient")
def test_whoever_waits_for_a_commit_is_not_kept_waiting() -> None:
    life, (busy,), _ = member(AHEAD_EVENTS)
    thread = admitting(life)
    assert not ended_within(thread, 0.2)
    life.ledger.announce(busy, None, 0.0)
    assert ended_within(thread, 5)


def test_nobody_holds_while_there_is_little_to_do() -> None:
    life, _, _ = member(10, 0, AHEAD_EVENTS - 1, more=0)
    assert life.intake._hungry()
