"""Any history of outcomes, receipts, rebalances and deaths: what must hold of the delivery core and the worker's loop.

A history is a list of steps, drawn by Hypothesis, so that whatever breaks shrinks to the shortest list that breaks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, settings

from orchestrator.delivery.checkpoint import read_checkpoint
from orchestrator.errors import BrokerError
from orchestrator.kafka.producer import SendFailure
from tests.support.simulation import OUTCOMES, Died, Life, World
from tests.support.transactions import FATES

PARTITIONS = (0, 1)
REFUSALS = (
    SendFailure("TOPIC_AUTHORIZATION_FAILED", "no"),
    SendFailure("MSG_SIZE_TOO_LARGE", "big", permanent=True),
    SendFailure("_FATAL", "fenced", fatal=True),
)
partitions = st.sampled_from(PARTITIONS)
fates = st.lists(st.sampled_from(("ok", "ok", "ok", *FATES)), max_size=4)
outcomes = st.lists(st.sampled_from(OUTCOMES), max_size=6)
receipts = st.lists(st.sampled_from((None, None, *REFUSALS)), max_size=6)


class Produce(NamedTuple):
    """Events on one partition: (key, whether it is a copy of the newest id, how many offsets are left out, whether it
    kills the process that runs it)."""

    partition: int
    events: list[tuple[str | None, bool, int, bool]]


class Turn(NamedTuple):
    """The poll delivers, the loop's thread gets a turn; a rebalance may come after the `cut`th thing that happens."""

    deliver: int
    outcomes: list[str]
    receipts: list[SendFailure | None]
    cut: int
    how: str
    which: int
    fates: list[str]


class Wait(NamedTuple):
    seconds: float


class Commit(NamedTuple):
    pass


class Rebalance(NamedTuple):
    """A partition is revoked or lost, or comes back."""

    partition: int
    how: str


class Restart(NamedTuple):
    """A new member takes all over. One that did not stop cleanly may come back later as a zombie."""

    clean: bool
    zombie: bool


steps = st.one_of(
    st.builds(
        Produce,
        partitions,
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c", None]),
                st.booleans(),
                st.integers(0, 2),
                st.sampled_from([False] * 11 + [True]),
            ),
            min_size=1,
            max_size=6,
        ),
    ),
    st.builds(
        Turn,
        st.integers(0, 6),
        outcomes,
        receipts,
        st.integers(0, 8),
        st.sampled_from(["revoke", "lose"]),
        partitions,
        fates,
    ),
    st.builds(Turn, st.integers(1, 6), outcomes, receipts, st.just(0), st.just(""), st.just(0), fates),
    st.builds(Wait, st.sampled_from([0.5, 2.0, 10.0])),
    st.builds(Commit),
    st.builds(Rebalance, partitions, st.sampled_from(["revoke", "lose", "assign"])),
    st.builds(Restart, st.booleans(), st.booleans()),
)


class History:
    """One consumer group with one live member at a time; members come, go and die."""

    def __init__(self, concurrency: int, *, exactly_once: bool = False) -> None:
        self.world = World()
        self.concurrency = concurrency
        self.exactly_once = exactly_once
        self.lives = 0
        self.ids = 0
        self.zombie: Life | None = None
        self.begin_life()

    def begin_life(self, *, elsewhere: bool = False) -> None:
        """A new member; `elsewhere`: on another machine, with another transactional id."""
        self.lives += elsewhere
        self.life = Life(self.world, self.concurrency, f"g.i{self.lives}.0" if self.exactly_once else "")
        self.life.assign(*PARTITIONS)

    def take(self, step: Any) -> None:
        match step:
            case Produce(partition, events):
                for key, copy, gap, poison in events:
                    self.ids += not copy
                    event_id = f"id{self.ids}" if self.ids % 4 else None
                    self.world.append(partition, key, event_id, gap, poison=poison)
            case Turn():
                self.turn(step)
            case Wait(seconds):
                self.world.now += seconds
            case Commit():
                self.guarded(self.life.commit)
            case Rebalance(partition, how):
                self.rebalance(partition, how)
            case Restart(clean, zombie):
                if clean:
                    self.life.revoke(*list(self.life.read))
                elif zombie and self.exactly_once:
                    self.zombie = self.life
                self.begin_life(elsewhere=zombie)
        self.check()

    def turn(self, step: Turn) -> None:
        world = self.world
        runs = chain(step.outcomes, repeat("ok"))
        failures = chain(step.receipts, repeat(None))
        world.draw = lambda record: next(runs)
        world.fails = lambda out: next(failures)
        left = iter(range(step.cut))

        def meanwhile() -> None:
            if step.cut and next(left, None) is None:
                self.rebalance(step.which, step.how)

        world.meanwhile = meanwhile
        fates = chain(step.fates, repeat("ok"))
        world.fate = lambda: next(fates)
        for partition in list(self.life.read):
            self.life.deliver(partition, step.deliver)
        self.rise()
        self.run(step.deliver, step.cut)
        world.meanwhile = lambda: None

    def run(self, answers: int, turn: int) -> bool:
        """The loop's thread gets its turns; whether it had anything to do. A poisonous event may end this life."""
        busy = False

        def turns() -> None:
            nonlocal busy
            busy = self.life.loop.turn()
            self.life.pool.answer(answers, turn)
            busy |= self.life.loop.turn()

        return not self.guarded(turns) or busy

    def guarded(self, step: Callable[[], object]) -> bool:
        """False when this life ended with it: a poisonous event, or a transaction whose end is not known."""
        try:
            step()
            return True
        except Died:
            self.life.die()
        except BrokerError:
            assert self.exactly_once
        self.world.meanwhile = lambda: None
        self.begin_life()
        return False

    def rise(self) -> None:
        """A member that was taken for dead goes on where it stood, and then hears of it."""
        zombie, self.zombie = self.zombie, None
        if zombie is None:
            return
        zombie.when_sleeping = lambda: zombie.lose(*list(zombie.read))
        meanwhile, self.world.meanwhile = self.world.meanwhile, lambda: None
        seen = len(self.world.acknowledged)
        with suppress(Died, BrokerError):
            zombie.loop.turn()
        assert len(self.world.acknowledged) == seen, "a zombie's outputs are not visible"
        self.world.meanwhile = meanwhile
        self.life.catch_up()

    def rebalance(self, partition: int, how: str) -> None:
        if how == "assign" and partition not in self.life.read:
            self.life.assign(partition)
        elif how == "revoke" and partition in self.life.read:
            self.life.revoke(partition)
        elif how == "lose" and partition in self.life.read:
            self.life.lose(partition)

    def check(self) -> None:
        for part in self.life.ledger.partitions:
            assert part.in_flight == part.frontier.held + len(part.fresh), "received: settled, held or waiting"
        for lane, offsets in self.lanes():
            assert offsets == sorted(offsets), f"{lane} out of order: {offsets}"

    def lanes(self) -> Iterator[tuple[tuple[int, bytes | None], list[int]]]:
        """The events of each key whose output was their first end, in the order of those outputs.

        Left out: an event whose output turns out to be too large. It ends late, as a letter, when its successors have
        been sent.
        """
        by_offset = {(r.partition, r.offset): r for log in self.world.log.values() for r in log}
        lanes: dict[tuple[int, bytes | None], list[int]] = {}
        left_out = {(p, o) for _, p, o in self.world.too_large}
        for (partition, offset), topic in self.world.completed.items():
            if topic == "out" and (partition, offset) not in left_out:
                lanes.setdefault((partition, by_offset[partition, offset].key), []).append(offset)
        yield from lanes.items()

    def finish(self) -> None:
        """All goes well from here on: every event comes to an end, and is counted once."""
        world = self.world
        world.draw = lambda record: "ok"
        world.fails = lambda out: None
        world.fate = lambda: "ok"
        self.life.assign(*(p for p in PARTITIONS if p not in self.life.read))
        for _ in range(500):
            world.now += 30
            for p in PARTITIONS:
                self.life.deliver(p, 100)
            busy = self.run(100, 0)
            if not busy and not any(p.in_flight for p in self.life.ledger.partitions):
                break
        self.life.commit()
        self.check()
        for p in PARTITIONS:
            log = world.log[p]
            offset, metadata = world.commits[p]
            assert offset == (log[-1].offset + 1 if log else 0), "everything is settled"
            assert read_checkpoint(offset, metadata).tally.settled == len(log), "and counted once"
        for place in world.poison:
            assert world.completed.get(place) in ("h.dlq", None), "what kills processes ends in the DLQ, or is a copy"
            assert place in world.skipped or world.completed.get(place) == "h.dlq"


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.sampled_from([1, 1, 3]), st.lists(steps, min_size=20, max_size=60))
def test_any_history(concurrency: int, history: list[Any]) -> None:
    """No commit covers an unsettled event (checked at each commit), keys keep their order, and the sums are right."""
    run = History(concurrency)
    for step in history:
        run.take(step)
    run.finish()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.sampled_from([1, 1, 3]), st.lists(steps, min_size=20, max_size=60))
def test_any_history_exactly_once(concurrency: int, history: list[Any]) -> None:
    """The same with transactions that abort, time out, are fenced or end unknown, and with zombies: none is twice."""
    run = History(concurrency, exactly_once=True)
    for step in history:
        run.take(step)
    run.finish()
    written = Counter((partition, offset) for _, partition, offset in run.world.acknowledged)
    assert set(written.values()) <= {1}, "every event has one output or one letter"
