"""Histories of a consumer group for the simulation: their steps, and what must hold whatever the steps.

A history is a list of steps, drawn by Hypothesis or written by hand, so that whatever breaks shrinks to the shortest
list that breaks it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, NamedTuple

from orchestrator.delivery.offsets.checkpoint import LIMIT, VERSION, read_checkpoint
from orchestrator.errors import BrokerError
from orchestrator.kafka.producer import SendFailure
from tests.support.simulation import FASTEST, Died, Life, World

PARTITIONS = (0, 1)
REFUSALS = (
    SendFailure("TOPIC_AUTHORIZATION_FAILED", "no"),
    SendFailure("MSG_SIZE_TOO_LARGE", "big", permanent=True, too_large=True),
    SendFailure("_FATAL", "fenced", fatal=True),
)
#: Metadata that is not of this version of kpipe, or was damaged: each counts as none.
UNREADABLE = (
    "",
    "\N{PILE OF POO} committed by hand",
    "[" * 10_000,
    "null",
    json.dumps({"v": VERSION + 1, "s": "", "n": [9, 9, 9]}),
    json.dumps({"v": VERSION, "s": "", "n": [1, 2]}),
    json.dumps({"v": VERSION, "s": "gA==", "n": [9, 9, 9]}),
    json.dumps({"v": VERSION, "s": base64.b64encode(bytes([0, 1]) * LIMIT).decode(), "n": [9, 9, 9]})[:-9],
)


class Killed(BaseException):
    """The process was killed from outside."""


class Produce(NamedTuple):
    """Events on one partition: (key, whether it is a copy of the newest id, how many offsets are left out, whether it
    kills the process that runs it)."""

    partition: int
    events: list[tuple[str | None, bool, int, bool]]


class Turn(NamedTuple):
    """The poll delivers, the loop's thread gets a turn.

    `outcomes` are those of the runs, then all are ok; `receipts` and `paces` those of what is sent, `fates` those of
    transactions. After the `cut`th thing that happens (0: never) partition `which` is taken away or the worker killed,
    as `how` says. `again`: answers of a pool come twice.
    """

    deliver: int
    outcomes: Sequence[str] = ()
    receipts: Sequence[SendFailure | None] = ()
    cut: int = 0
    how: str = ""
    which: int = 0
    fates: Sequence[str] = ()
    paces: Sequence[int] = ()
    again: bool = False


class Wait(NamedTuple):
    seconds: float


class Commit(NamedTuple):
    """The second is over; `answer` is what becomes of the commit (`FakeConsumer.answer`)."""

    answer: str = "made"


class Land(NamedTuple):
    """So many records arrive whose producer was not waited for; the others never do."""

    most: int


class Spoil(NamedTuple):
    """The group's newest commit of a partition has metadata that cannot be read."""

    partition: int
    metadata: str


class Rebalance(NamedTuple):
    """A partition is revoked or lost, or comes back."""

    partition: int
    how: str


class Restart(NamedTuple):
    """A new member takes all over. One that did not stop cleanly may come back later as a zombie."""

    clean: bool
    zombie: bool


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
            case Commit(answer):
                self.world.commit_answer = lambda: answer
                self.guarded(self.life.commit)
                self.world.commit_answer = lambda: "made"
            case Land(most):
                self.world.arrive_late(most)
            case Spoil(partition, metadata):
                self.world.spoil(partition, metadata)
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
                if step.how == "kill":
                    raise Killed
                self.rebalance(step.which, step.how)

        world.meanwhile = meanwhile
        fates = chain(step.fates, repeat("ok"))
        world.fate = lambda: next(fates)
        for partition in list(self.life.read):
            self.life.deliver(partition, step.deliver)
        paces = chain(step.paces, repeat(FASTEST - 1))
        world.pace = lambda: next(paces)
        self.rise()
        self.run(step.deliver, step.cut, again=step.again)
        world.meanwhile = lambda: None

    def run(self, answers: int, turn: int, *, again: bool = False) -> bool:
        """The loop's thread gets its turns; whether it had anything to do. A poisonous event may end this life."""
        busy = False

        def turns() -> None:
            nonlocal busy
            busy = self.life.loop.turn()
            self.life.pool.answer(answers, turn, again=again)
            busy |= self.life.loop.turn()

        return not self.guarded(turns) or busy

    def guarded(self, step: Callable[[], object]) -> bool:
        """False when this life ended with it: a poisonous event, or a transaction whose end is not known."""
        try:
            step()
            return True
        except Died:
            self.life.die()
        except Killed:
            self.life.consumer.answer("made")
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

        Left out: an event whose output turns out to be too large (it ends late, as a letter, when its successors have
        been sent), and one that had nothing to write when it ran before, and was not settled.
        """
        by_offset = {(r.partition, r.offset): r for log in self.world.log.values() for r in log}
        lanes: dict[tuple[int, bytes | None], list[int]] = {}
        left_out = {(p, o) for _, p, o in self.world.too_large} | self.world.hushed
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
        world.pace = lambda: FASTEST - 1
        self.life.assign(*(p for p in PARTITIONS if p not in self.life.read))
        for _ in range(500):
            world.now += 30
            for p in PARTITIONS:
                self.life.deliver(p, 100)
            busy = self.run(100, 0)
            if busy or any(p.in_flight for p in self.life.ledger.partitions):
                continue
            if self.guarded(self.life.commit):
                break
        self.check()
        for p in PARTITIONS:
            log = world.log[p]
            world.forget(p)
            offset, metadata = world.commits[p]
            assert offset == (log[-1].offset + 1 if log else 0), "everything is settled"
            counted = read_checkpoint(offset, metadata).tally.settled + world.uncounted.get(p, 0)
            assert counted == len(log) or not world.exact, "and counted once"
        for place in world.poison:
            assert world.completed.get(place) in ("h.dlq", None), "what kills processes ends in the DLQ, or is a copy"
            assert place in world.skipped or world.completed.get(place) == "h.dlq"
