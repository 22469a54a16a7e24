"""Histories by name: what the random ones (`test_delivery.py`) come by now and then, each for itself and to the number.

Every one ends well in the end, and `History.finish` then holds them all to the same laws: one end for every event,
order in each lane, no commit that covers an unsettled event or goes back, each event counted once, none run again that
a commit covered when its epoch began.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

import pytest

from orchestrator.delivery.offsets.checkpoint import LIMIT, _pack
from orchestrator.kafka.producer import SendFailure
from tests.support.history import REFUSALS, UNREADABLE, Commit, History, Land, Produce, Rebalance, Restart, Spoil, Turn
from tests.support.simulation import FASTEST, World

FORBIDDEN, TOO_LARGE, FATAL = REFUSALS


def of(*keys: str, poison: int = -1) -> Produce:
    """An event of each key, from offset 0 of partition 0 on."""
    return Produce(0, [(key, False, 0, at == poison) for at, key in enumerate(keys)])


def played(*steps: Any, concurrency: int = 1, exactly_once: bool = False) -> World:
    run = History(concurrency, exactly_once=exactly_once)
    for step in steps:
        run.take(step)
    run.finish()
    return run.world


def written(world: World, topic: str = "out") -> Counter[int]:
    """How often each event's record was taken."""
    return Counter(offset for where, _, offset in world.acknowledged if where == topic)


def once(*offsets: int) -> Counter[int]:
    return Counter(offsets)


TEN = of(*"abcdefghij")


@pytest.mark.parametrize("exactly_once", [False, True])
@pytest.mark.parametrize(
    ("steps", "twice"),
    [
        pytest.param([TEN, Turn(10, cut=7, how="kill")], 0, id="while-it-runs"),
        pytest.param([TEN, Turn(10, cut=19, how="kill")], 7, id="while-its-output-is-sent"),
        pytest.param([TEN, Turn(10), Restart(False, False)], 10, id="before-the-commit"),
        pytest.param([TEN, Turn(10), Commit("late"), Restart(False, False)], 10, id="the-commit-did-not-arrive"),
        pytest.param([TEN, Turn(10), Commit("unheard"), Restart(False, False)], 0, id="the-commit-was-not-heard-of"),
        pytest.param([TEN, Turn(10), Commit(), Restart(False, False)], 0, id="after-the-commit"),
    ],
)  # fmt: skip
def test_a_crash_at_offset_7(steps: list[Any], twice: int, exactly_once: bool) -> None:
    """Killed from outside: what was sent and not committed is sent again, and nothing else."""
    world = played(*steps, exactly_once=exactly_once)
    assert sum(times == 2 for times in written(world).values()) == (0 if exactly_once else twice)
    assert set(written(world)) == set(range(10)) and max(written(world).values()) <= 2


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_crash_by_offset_7(concurrency: int) -> None:
    """The event itself kills whatever runs it: it alone ends in the DLQ."""
    world = played(of(*"abcdefghij", poison=7), Turn(10), concurrency=concurrency)
    assert written(world, "h.dlq") == once(7) and set(written(world)) == set(range(10)) - {7}


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("how", ["revoke", "lose"])
@pytest.mark.parametrize("cut", range(1, 12))
def test_a_partition_goes_while_events_are_in_flight(how: str, cut: int, concurrency: int) -> None:
    """At every moment of a turn, and back again: each event has its end, what arrived late included."""
    history = [of(*"abaab"), Turn(5, cut=cut, how=how, paces=[1] * 8), Land(2), Rebalance(0, "assign"), Turn(5)]
    world = played(*history, concurrency=concurrency)
    assert set(written(world)) == set(range(5)) and max(written(world).values()) <= 2


def test_a_partition_that_was_lost_is_not_committed() -> None:
    run = History(1)
    for step in (of(*"ab"), Turn(2, cut=4, how="lose", paces=[2, 0])):
        run.take(step)
    assert written(run.world) == once(0, 1) and run.world.commits[0][0] == 0
    run.finish()
    assert written(run.world) == once(0, 0, 1, 1)


@pytest.mark.parametrize("failure", [FORBIDDEN, FATAL], ids=["refused", "producer-finished"])
def test_a_dead_letter_that_cannot_be_written(failure: SendFailure) -> None:
    """Its lane waits for it, everybody else goes on, and it is there once, before its successor's output."""
    run = History(1)
    run.take(of(*"aba"))
    run.life.deliver(0, 3)
    run.world.draw = lambda record: "ok" if record.offset else "reject"
    run.world.fails = lambda out: failure if out.topic == "h.dlq" else None
    for _ in range(10):
        run.run(3, 0)
        run.world.now += 30
    run.take(Commit())
    assert [offset for _, _, offset in run.world.acknowledged] == [1], "everybody else"
    assert run.world.commits[0][0] == 0 and run.life.ledger.partitions[0].in_flight == 2
    run.finish()
    assert [(topic, offset) for topic, _, offset in run.world.acknowledged] == [("out", 1), ("h.dlq", 0), ("out", 2)]


def test_letters_of_aborted_transactions_are_not_counted() -> None:
    """`kpipe_dlq_total` counts what is there: a letter whose transaction was aborted before counts once."""
    run = History(1, exactly_once=True)
    for step in (of(*"ab"), Turn(2, ["reject", "ok"], fates=["late-abort", "abort", "abort"])):
        run.take(step)
    counted = run.life.facts.meter.letters
    assert not written(run.world, "h.dlq") and not +counted
    for _ in range(5):
        run.take(Turn(0, ["reject"]))
        run.world.now += 30
        assert counted["rejected"] == sum(written(run.world, "h.dlq").values())
    assert counted["rejected"]
    run.finish()


def test_receipts_in_another_order() -> None:
    """Letters and outputs are acknowledged by different brokers, the later ones first."""
    rotated = [FASTEST + 1, 1, FASTEST + 1, 1] * 3
    world = played(of(*"abcd"), Turn(4, ["reject", "ok", "reject", "ok"], [None, FORBIDDEN], paces=rotated))
    assert sorted(written(world) + written(world, "h.dlq")) == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["revoke", "lose", "kill"])
def test_receipts_that_come_after_the_partition_went(how: str) -> None:
    """Taken by the broker, never heard of here: settled by nobody, so handled again; two more arrive later still."""
    run = History(1)
    for step in (of(*"aaaaa"), Turn(5, cut=8, how=how, paces=[2, 1])):
        run.take(step)
    assert set(written(run.world)) == ({0, 1} if how == "kill" else {0, 1, 2}) and run.world.commits[0][0] == 0
    for step in (Rebalance(0, "assign"), Turn(1), Land(2), Turn(5)):
        run.take(step)
    run.finish()
    assert set(written(run.world)) == set(range(5))


@pytest.mark.parametrize("how", ["late", "refused", "unheard"])
def test_commits_whose_answers_come_late_or_never(how: str) -> None:
    run = History(1)
    for step in (of(*"abc"), Turn(2), Commit(how), Turn(1), Commit(how)):
        run.take(step)
    # The one that was late is through before the next one goes: never two at a time.
    assert run.world.commits[0][0] == {"late": 2, "refused": 0, "unheard": 3}[how]
    for step in (Commit(), Commit()):
        run.take(step)
    assert run.world.commits[0][0] == 3
    run.finish()
    assert written(run.world) == once(0, 1, 2)


@pytest.mark.parametrize("how", ["late", "refused"])
def test_the_commit_of_a_partition_that_goes_is_not_overtaken(how: str) -> None:
    """An answer is still out when the partition is revoked, or lost: the last commit is the newest."""
    steps = (of(*"abcd"), Turn(2), Commit(how), Turn(1))
    world = played(*steps, Rebalance(0, "revoke"), Rebalance(0, "assign"), Turn(4))
    assert written(world) == once(0, 1, 2, 3)
    world = played(*steps, Rebalance(0, "lose"), Rebalance(0, "assign"), Turn(4))
    assert written(world) == once(0, 0, 1, 1, 2, 2, 3)


@pytest.mark.parametrize("exactly_once", [False, True])
def test_answers_that_come_twice(exactly_once: bool) -> None:
    """Of a pool, at once and a turn later: only the first one counts, also when another event has the lane by then."""
    steps = [Turn(7, ["ok", "retry", "ok"], again=True), *[Turn(3, ["ok", "reject"], again=True)] * 4]
    world = played(of(*"aababca"), *steps, concurrency=3, exactly_once=exactly_once)
    assert all(times == 1 for times in (written(world) + written(world, "h.dlq")).values())


@pytest.mark.parametrize("how", ["revoke", "lose"])
@pytest.mark.parametrize("again", [False, True])
def test_answers_that_come_after_their_epoch(how: str, again: bool) -> None:
    """Nothing that they ask for is sent, and they settle nothing in the epoch that follows."""
    run = History(3)
    run.take(of(*"abc"))
    run.life.deliver(0, 3)
    run.life.loop.turn()
    assert len(run.life.pool.started) == 3
    for step in (Rebalance(0, how), Rebalance(0, "assign")):
        run.take(step)
    run.life.pool.answer(3, 0, again=again)
    run.life.loop.turn()
    assert not run.world.acknowledged and run.life.ledger.partitions[0].running == 0
    run.finish()
    assert written(run.world) == once(0, 1, 2)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("metadata", UNREADABLE, ids=range(len(UNREADABLE)))
def test_metadata_that_cannot_be_read_counts_as_none(metadata: str, elsewhere: bool) -> None:
    """What it said was settled above the offset runs again; what lies below does not, and nothing is lost."""
    steps = (of(*"abcd"), Turn(4, ["ok", "unavailable", "ok", "ok"]), Commit())
    kept = played(*steps, Restart(False, elsewhere), Turn(4))
    assert written(kept) == once(0, 1, 2, 3), "with it, nothing does"
    world = played(*steps, Spoil(0, metadata), Restart(False, elsewhere), Turn(4))
    assert written(world) == once(0, 1, 2, 2, 3, 3)


def test_metadata_of_more_than_a_commit_can_hold() -> None:
    """Where a cluster allows more than kpipe writes: what is read holds, and what is committed then fits again."""
    settled = range(2, 6_000, 2)
    packed = base64.b64encode(_pack(0, tuple((at, at + 1) for at in settled))).decode()
    run = History(1)
    run.world.exact = False  # what is left out is counted already, and once more when it has run again
    run.take(Produce(0, [(f"k{at % 50}", False, 0, False) for at in range(6_000)]))
    run.world.silent |= {(0, at) for at in settled}
    run.world.commits[0] = (0, json.dumps({"v": 1, "s": packed, "n": [len(settled), 0, 0]}))
    run.begin_life()
    run.take(Turn(6_000, ["unavailable"]))
    run.take(Commit())
    run.finish()
    assert set(written(run.world)) >= {0, *range(1, 6_000, 2)} and len(run.world.commits[0][1]) <= LIMIT
