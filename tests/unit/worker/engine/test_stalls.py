"""Corners in which the worker's loop must not stand still, drop an answer, or blame an event."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.delivery.offsets.checkpoint import MOST_RANGES, Checkpoint, read_checkpoint
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.strikes import Strikes
from orchestrator.event import Event
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.engine.pool import AsyncPool
from orchestrator.worker.runners.python import PythonHandler
from tests.support.simulation import Life, World

TP = TopicPartition("in", 0)


def spin(life: Life, turns: int, seconds: float) -> None:
    for _ in range(turns):
        life.loop.turn()
        life.pool.answer(99, 0)
        life.world.now += seconds


def full_of_ranges(world: World, concurrency: int, draw: Callable[[Record], str]) -> tuple[Life, Partition]:
    """Every other key waits, until the commit's metadata has no room for one more settled range."""
    world.draw = draw
    for n in range(3_000):
        world.append(0, f"k{n}", f"id{n}")
    life = Life(world, concurrency)
    life.assign(0)
    life.ledger.receive(world.log[0])
    (part,) = life.ledger.partitions
    spin(life, 1_500, 0.0001)
    assert len(part.frontier.settled_above()) >= MOST_RANGES - 1 and part.fresh
    return life, part


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_partition_without_room_for_ranges_goes_on_when_its_lanes_can(concurrency: int) -> None:
    world = World()
    life, part = full_of_ranges(world, concurrency, lambda r: "unavailable" if r.offset % 2 else "ok")
    world.draw = lambda record: "ok"
    spin(life, 4_000, 0.1)
    assert (part.in_flight, part.frontier.committable) == (0, 3_000)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_and_so_it_does_after_an_outage(concurrency: int) -> None:
    world = World()
    life, part = full_of_ranges(world, concurrency, lambda r: "unavailable" if r.offset % 2 else "ok")
    world.draw = lambda record: "unavailable"
    spin(life, 2_000, 0.05)
    world.draw = lambda record: "ok"
    spin(life, 4_000, 0.1)
    assert (part.in_flight, life.loop._guard.state) == (0, "closed")


def restarted(ledger: Assignments) -> Strikes:
    """What is held against the only suspect in the next life."""
    ended = ledger.close([TP])[TP]
    checkpoint = read_checkpoint(ended.offset, ended.metadata())
    return Partition(TP, "in", checkpoint, None).suspects[5]


def test_a_run_alone_that_came_back_or_was_given_up_counts_nothing() -> None:
    def opened() -> tuple[Assignments, Partition]:
        ledger, part = Assignments(), Partition(TP, "in", Checkpoint(5, strikes=((5, Strikes(3)),)), None)
        ledger.open(part, None)
        ledger.announce(part, 5, 0.0)
        assert part.suspects[5].solo
        return ledger, part

    ledger, part = opened()
    ledger.solo_ended(part, 5)
    assert not part.suspects[5].solo
    assert restarted(ledger) == Strikes(3)
    assert restarted(opened()[0]) == Strikes(3), "we gave it up ourselves"


def test_nobody_waits_for_a_commit_by_a_thread_that_waits_for_them() -> None:
    ledger, part = Assignments(), Partition(TP, "in", Checkpoint(0), None)
    ledger.open(part, None)
    assert ledger.begin(part)
    told: list[bool] = []

    def handlers() -> None:
        told.append(ledger.announce(part, 0, 20.0))
        ledger.abandon(part)

    thread = threading.Thread(target=handlers)
    thread.start()
    assert ledger.drain([TP], 10.0)
    thread.join(10)
    assert told == [False]


def test_a_handler_that_waits_for_something_cancelled_has_failed() -> None:
    async def handle(event: Event) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    pool: AsyncPool[str] = AsyncPool(PythonHandler(handle, 1.0), 2, lambda: None)
    pool.start(Event(Record("t", 0, 0, 0, None, b"{}", ()), {}), "token")
    token, answer = pool.answers.get(timeout=10)
    pool.close()
    assert token == "token" and not isinstance(answer, list) and answer.verdict == "retry"


def test_the_next_events_run_while_the_receipts_of_those_before_are_out() -> None:
    world = World()
    for n in range(12):
        world.append(0, f"k{n}", f"id{n}")
    life = Life(world, 4)
    life.assign(0)
    life.ledger.receive(world.log[0])
    running: list[int] = []
    life.loop.turn()
    life.pool.answer(4, 0)
    wait = life.loop._receipts.wait

    def watched(*args: Any) -> Any:
        running.append(len(life.pool.started))
        return wait(*args)

    life.loop._receipts.wait = watched  # type: ignore[method-assign]
    life.loop.turn()
    assert running == [4]
    assert [p.settled_events for p in life.ledger.partitions] == [4]


def test_no_other_event_starts_before_a_failure_is_judged() -> None:
    world = World(draw=lambda record: "unavailable")
    for n in range(40):
        world.append(0, f"k{n}", f"id{n}")
    life = Life(world, 4)
    life.assign(0)
    life.ledger.receive(world.log[0])
    for _ in range(20):
        life.loop.turn()
        life.pool.answer(1, 0)
    assert life.loop._guard.state != "closed"
    assert len(life.pool.started) <= 1


def test_every_partition_gets_its_turn() -> None:
    world = World()
    for n in range(40):
        world.append(0, f"k{n}", f"a{n}")
        world.append(1, f"k{n}", f"b{n}")
    life = Life(world, 4)
    life.assign(0, 1)
    life.ledger.receive([*world.log[0], *world.log[1]])
    spin(life, 4, 0.0)
    assert all(part.settled_events for part in life.ledger.partitions)


def test_events_that_are_started_from_another_thread_all_run() -> None:
    async def handle(event: Event) -> None:
        await asyncio.sleep(0)

    pool: AsyncPool[int] = AsyncPool(PythonHandler(handle, 10.0), 2, lambda: None)
    for n in range(2_000):
        pool.start(Event(Record("t", 0, n, 0, None, b"{}", ()), {}), n)
    assert sorted(pool.answers.get(timeout=10)[0] for _ in range(2_000)) == list(range(2_000))
    pool.close()
