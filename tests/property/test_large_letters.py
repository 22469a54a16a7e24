"""Letters that are too large for their DLQ, in the simulator: they have an end, in order, and nobody else pays."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.delivery.headers.dead_letters import CUTS, TRUNCATED
from orchestrator.kafka.producer import SendFailure
from orchestrator.records import Outgoing
from tests.property.test_histories import of, once, written
from tests.support.history import History, Restart
from tests.support.simulation import World

TOO_LARGE = SendFailure("MSG_SIZE_TOO_LARGE", "big", permanent=True, too_large=True)
both = pytest.mark.parametrize("exactly_once", [False, True])
loops = pytest.mark.parametrize("concurrency", [1, 3])


def is_cut(out: Outgoing) -> bool:
    return any(name == TRUNCATED for name, _ in out.headers)


def large_letter(out: Outgoing) -> SendFailure | None:
    return TOO_LARGE if out.topic == "h.dlq" else None


def rejecting(*offsets: int, concurrency: int, exactly_once: bool, keys: str = "abaab") -> History:
    """Events of these keys are delivered; those at `offsets` are rejected, and their letters are too large."""
    run = History(concurrency, exactly_once=exactly_once)
    run.take(of(*keys))
    run.life.deliver(0, len(keys))
    run.world.draw = lambda record: "reject" if record.offset in offsets else "ok"
    run.world.fails = large_letter
    return run


def played(run: History) -> World:
    for _ in range(20):
        run.run(5, 0)
        run.world.now += 30
    return run.world


def of_key(world: World, *offsets: int) -> list[tuple[str, int]]:
    return [(topic, offset) for topic, _, offset in world.acknowledged if offset in offsets]


@both
@loops
def test_it_is_cut_and_its_key_goes_on_behind_it(concurrency: int, exactly_once: bool) -> None:
    run = rejecting(0, concurrency=concurrency, exactly_once=exactly_once)
    world = played(run)
    assert written(world, "h.dlq") == once(0) and written(world) == once(1, 2, 3, 4)
    assert of_key(world, 0, 2, 3) == [("h.dlq", 0), ("out", 2), ("out", 3)], "in order of the key"
    assert run.life.ledger.totals()[1] == 0, "nothing is in flight any more"
    meter = run.life.facts.meter
    assert (meter.letters["rejected"], meter.letters_cut) == (1, 1)
    run.finish()


@both
@loops
def test_many_of_one_key_are_each_cut(concurrency: int, exactly_once: bool) -> None:
    run = rejecting(0, 2, 3, concurrency=concurrency, exactly_once=exactly_once)
    world = played(run)
    assert of_key(world, 0, 2, 3) == [("h.dlq", 0), ("h.dlq", 2), ("h.dlq", 3)]
    assert written(world) == once(1, 4) and run.life.facts.meter.letters_cut == 3
    run.finish()


@both
@loops
def test_where_not_even_the_shortest_fits_the_event_is_skipped(
    concurrency: int, exactly_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "kpipe.worker")
    run = rejecting(0, concurrency=concurrency, exactly_once=exactly_once)
    run.world.tight = True
    world = played(run)
    assert not written(world, "h.dlq") and written(world) == once(1, 2, 3, 4)
    assert run.life.ledger.totals()[0].skipped == 1 and run.life.ledger.totals()[1] == 0
    told = [record.getMessage() for record in caplog.records if "ALARM" in record.getMessage()]
    assert len(told) == 2 and "is cut" in told[0] and "not even the shortest" in told[1], "one alarm for each, no more"
    assert sum("base64 1 of" in record.getMessage() for record in caplog.records) == 1, "the record is in the log"
    run.finish()


@both
def test_a_refusal_is_believed_only_once_it_was_compressed_better(exactly_once: bool) -> None:
    run = rejecting(0, concurrency=1, exactly_once=exactly_once)
    squeezed: list[int] = []
    receipts: Any = run.life.loop._receipts
    seen: list[Outgoing] = []

    def squeeze() -> bool:
        squeezed.append(len(seen))
        run.world.too_large.clear()
        return len(squeezed) == 1

    def refuses(out: Outgoing) -> SendFailure | None:
        if out.topic == "h.dlq":
            seen.append(out)
        return TOO_LARGE if out.topic == "h.dlq" and not squeezed else None

    receipts.squeeze = squeeze
    run.world.fails = refuses
    world = played(run)
    assert written(world, "h.dlq") == once(0) and not any(map(is_cut, seen))
    assert run.life.facts.meter.letters_cut == 0 and squeezed
    run.finish()


@both
def test_a_worker_that_dies_in_between_begins_with_the_whole_letter_again(exactly_once: bool) -> None:
    run = rejecting(0, concurrency=1, exactly_once=exactly_once)
    run.run(5, 0)
    run.take(Restart(False, False))
    run.world.draw = lambda record: "reject" if record.offset == 0 else "ok"
    run.world.fails = large_letter
    run.life.deliver(0, 5)
    world = played(run)
    assert set(written(world, "h.dlq")) == {0} and set(written(world)) == {1, 2, 3, 4}
    assert [at for _, at in of_key(world, 0, 2, 3)] == sorted(at for _, at in of_key(world, 0, 2, 3))
    run.finish()


def test_the_steps_leave_ever_less() -> None:
    assert [step.value for step in CUTS] == sorted((step.value for step in CUTS), reverse=True)
    assert [step.own_headers for step in CUTS] == sorted((step.own_headers for step in CUTS), reverse=True)
    assert CUTS[-1].brief and not any(step.brief for step in CUTS[:-1])
