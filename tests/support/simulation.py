"""The real worker loop, ledger and intake on a virtual clock, between a scripted group and a scripted broker.

One thread drives everything, so that a history is a list of choices and a failure shrinks to a short one. Nothing of
Kafka is imitated beyond what the loop can see: records arrive in order, receipts come or fail, offsets are committed.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from orchestrator.config.model import DedupPolicy, Handler, KafkaSettings, Pipeline, RetryPolicy, Topic
from orchestrator.contracts import Contract
from orchestrator.delivery.checkpoint import read_checkpoint
from orchestrator.delivery.letters import Sender
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.strikes import WHOLE, Strikes
from orchestrator.event import Emit, Event
from orchestrator.kafka.consumer import CommitRequest, Committed, Membership
from orchestrator.kafka.producer import SendFailure
from orchestrator.records import Outgoing, Record, TopicPartition
from orchestrator.worker.attempt import Attempts
from orchestrator.worker.batch import Batch
from orchestrator.worker.concurrent import ConcurrentLoop
from orchestrator.worker.facts import Facts
from orchestrator.worker.guard import Guard
from orchestrator.worker.intake import Intake
from orchestrator.worker.ledger import Ledger
from orchestrator.worker.loop import Loop
from orchestrator.worker.outputs import Outputs
from orchestrator.worker.quarantine import Quarantine
from orchestrator.worker.rebuild import register
from orchestrator.worker.source import sources_of
from tests.support.transactions import SimulatedTransactions

logging.getLogger("kpipe.worker").setLevel(logging.CRITICAL)

ATTEMPTS = 3
OUTCOMES = ("ok", "silent", "retry", "reject", "unavailable", "undeclared")


def pipeline() -> Pipeline:
    def topic(name: str, **more: Any) -> Topic:
        return Topic(name, name, partitions=2, replication=1, configs={}, **more)

    handler = Handler(
        name="h",
        kind="python",
        target="x:y",
        group="g",
        consumes=("in",),
        produces=("out",),
        dlq="h.dlq",
        retry=RetryPolicy(attempts=ATTEMPTS, backoff=1.0, max_backoff=4.0),
        dedup=DedupPolicy("id", 1e6),
    )
    topics = {t.name: t for t in (topic("in", dlq="in.dlq"), topic("out"), topic("in.dlq", is_dlq=True))}
    topics["h.dlq"] = topic("h.dlq", is_dlq=True)
    return Pipeline("p", "", Path(), KafkaSettings(), topics, {}, {"h": handler})


@dataclass
class World:
    """What survives a worker: the log, the group's commits, and what the broker acknowledged."""

    log: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))
    commits: dict[int, tuple[int, str]] = field(default_factory=dict)
    #: (topic, partition, offset): where each acknowledged record went and which event caused it, in order.
    acknowledged: list[tuple[str, int, int]] = field(default_factory=list)
    #: Events that a run ended without anything to write, or that were skipped as copies.
    silent: set[tuple[int, int]] = field(default_factory=set)
    #: How each event first came to an end, in order: (partition, offset) -> the topic that took it, "" for none.
    completed: dict[tuple[int, int], str] = field(default_factory=dict)
    #: Events that were skipped as copies at least once.
    skipped: set[tuple[int, int]] = field(default_factory=set)
    #: What was too large once is too large for ever.
    too_large: dict[tuple[str, int, int], SendFailure] = field(default_factory=dict)
    #: Outcome of each run, drawn when it happens: (partition, offset, attempt) -> one of OUTCOMES.
    draw: Callable[[Record], str] = lambda record: "ok"
    fails: Callable[[Outgoing], SendFailure | None] = lambda out: None
    #: Something that happens while a handler runs or receipts are out.
    meanwhile: Callable[[], None] = lambda: None
    now: float = 0.0
    #: Transactions: what becomes of the next one, the current epoch of each id, and the group's generation.
    fate: Callable[[], str] = lambda: "ok"
    epochs: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    #: Events that kill whatever process runs them.
    poison: set[tuple[int, int]] = field(default_factory=set)
    #: Events that were running when a worker died of one, for whoever is assigned their partition.
    suspects: set[tuple[int, int]] = field(default_factory=set)

    def append(
        self, partition: int, key: str | None, event_id: str | None, gap: int = 0, *, poison: bool = False
    ) -> Record:
        log = self.log[partition]
        offset = (log[-1].offset + 1 if log else 0) + gap
        value = {"id": event_id} if event_id is not None else {}
        record = Record("in", partition, offset, 1_000 + offset, key and key.encode(), json.dumps(value).encode(), ())
        log.append(record)
        if poison:
            self.poison.add((partition, offset))
        return record

    def commit(self, requests: Sequence[CommitRequest]) -> None:
        for request in requests:
            self.commits[request.tp.partition] = (request.offset, request.metadata)
            self.check_commit(request.tp.partition)

    def refusal(self, out: Outgoing, place: tuple[int, int]) -> SendFailure | None:
        """Why a record is not taken, by itself. A DLQ takes whatever its source took."""
        failure = self.too_large.get((out.topic, *place)) or self.fails(out)
        if failure is not None and failure.permanent:
            if out.topic != "out":
                return None
            self.too_large[out.topic, *place] = failure
        return failure

    def check_commit(self, partition: int) -> None:
        """No commit covers an unsettled event."""
        offset, metadata = self.commits[partition]
        checkpoint = read_checkpoint(offset, metadata)
        acknowledged = {(p, o) for _, p, o in self.acknowledged}
        for record in self.log[partition]:
            covered = record.offset < offset or any(a <= record.offset < b for a, b in checkpoint.settled)
            if covered and (partition, record.offset) not in acknowledged | self.silent:
                raise AssertionError(f"the commit {checkpoint} covers unsettled {record}")


class FakeConsumer:
    """Only what `Intake` calls outside of `run`."""

    def __init__(self, world: World) -> None:
        self.world = world

    committing = False
    generation = 0

    def membership(self) -> Membership:
        return Membership(self.generation)

    def on_commit_failure(self, told: object) -> None: ...

    def commit(self, requests: Sequence[CommitRequest], *, wait: bool) -> None:
        self.world.commit(requests)

    def ends_of(self, tp: TopicPartition) -> tuple[int, int]:
        log = self.world.log[tp.partition]
        return (0, log[-1].offset + 1 if log else 0)


Told = Callable[[SendFailure | None], None]


class FakeReceipts:
    """Acknowledges or refuses at the barrier, in order; an ended epoch loses what was not acknowledged.

    A refusal of one record alone is permanent (too large). Any other is about the topic or the producer, and then the
    rest of what was sent there fails with it, as it does in librdkafka.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: list[tuple[Outgoing, int, Told]] = []

    def open(self, stopping: Callable[[], bool]) -> None: ...

    def tidy(self, stopping: Callable[[], bool]) -> None: ...

    def send(self, out: Outgoing, batch: Batch, told: Told = lambda failure: None) -> None:
        self.queue.append((out, len(batch.records) - 1, told))

    def wait(self, batch: Batch, stopping: Callable[[], bool], plan: object) -> bool:
        queue, self.queue = self.queue, []
        down: dict[str, SendFailure] = {}
        quiet = []
        failed = set()
        for index, record in enumerate(batch.records):
            outs = [(out, told) for out, of, told in queue if of == index]
            for out, told in outs:
                self.world.meanwhile()
                if batch.over:
                    return False
                failure = self._failure(out, record, down)
                batch.receipt(index, failure, -1, -1)
                told(failure)
                if failure is not None:
                    failed.add(record.key)
                else:
                    self.world.acknowledged.append((out.topic, record.partition, record.offset))
                    self.world.completed.setdefault((record.partition, record.offset), out.topic)
            if not outs and record.key not in failed:
                quiet.append((record.partition, record.offset))
                if index in batch.skipped:
                    self.world.skipped.add(quiet[-1])
                else:
                    self.world.completed.setdefault(quiet[-1], "")
        self.world.silent.update(quiet)
        return True

    def _failure(self, out: Outgoing, record: Record, down: dict[str, SendFailure]) -> SendFailure | None:
        place = (out.topic, record.partition, record.offset)
        failure = self.world.too_large.get(place) or down.get(out.topic) or self.world.fails(out)
        if failure is not None and failure.permanent:
            if out.topic != "out":
                return None  # a DLQ takes whatever its source took
            self.world.too_large[place] = failure
        elif failure is not None:
            down.update(dict.fromkeys(("out", "in.dlq", "h.dlq") if failure.fatal else [out.topic], failure))
        return failure


class FakePool:
    """Events run when `answer` says so, in whatever order."""

    outside = False
    error: BaseException | None = None

    def __init__(self, runner: FakeRunner, size: int) -> None:
        self.size = size
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.started: list[tuple[Event, Any]] = []
        self._runner = runner

    def start(self, event: Event, token: Any) -> None:
        self.started.append((event, token))

    def answer(self, most: int, turn: int) -> None:
        """Up to `most` of the events that run come to their end; `turn` mixes their order."""
        turn = turn % max(1, len(self.started))
        self.started = self.started[turn:] + self.started[:turn]
        done, self.started = self.started[:most], self.started[most:]
        for event, token in done:
            self.answers.put((token, self._runner.run(event)))

    def close(self) -> None: ...


class Died(BaseException):
    """The process is gone: nothing of its memory is left."""


class FakeJournal:
    """What is in flight, read by the world when the process dies."""

    def __init__(self) -> None:
        self.running: dict[int, tuple[int, int]] = {}

    def begin(self, index: int, offset: int, deadline: float) -> None:
        self.running[0] = (index - 1, offset)

    def end(self) -> None:
        self.running.pop(0, None)

    def begin_one(self, index: int, offset: int, deadline: float) -> int:
        slot = max(self.running, default=0) + 1
        self.running[slot] = (index - 1, offset)
        return slot

    def end_one(self, slot: int) -> None:
        self.running.pop(slot, None)


class FakeChild:
    """A process that may die of its event, and is there again for the next one."""

    def __init__(self, runner: FakeRunner) -> None:
        self.runner = runner

    def run(self, event: Event) -> list[Emit] | Failed:
        try:
            return self.runner.run(event)
        except Died:
            return Failed("crash", "scripted", "ProcessDied", exit="exit code 1", thirds=WHOLE)

    def stop(self) -> None: ...

    def close(self) -> None: ...


class FakeApart:
    """Runs what is in quarantine at once."""

    def __init__(self, attempts: Attempts, pool: Any, on_answer: Callable[[], None]) -> None:
        self.attempts, self.pool = attempts, pool

    def start(self, event: Event, running: Any) -> None:
        self.pool.answers.put((running, self.attempts.run_apart(running.part, event, running.pending.record)))


class FakeRunner:
    """A handler whose outcomes are drawn from the script."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, event: Event) -> list[Emit] | Failed:
        self.world.meanwhile()
        assert event.attempt <= ATTEMPTS, "more attempts than allowed"
        record = event._record
        if (record.partition, record.offset) in self.world.poison:
            raise Died
        outcome = self.world.draw(record)
        if outcome == "ok":
            return [Emit("out", {"of": record.offset})]
        if outcome == "silent":
            return []
        if outcome == "undeclared":
            return [Emit("elsewhere", {})]
        return Failed(outcome, "scripted")  # type: ignore[arg-type]

    def close(self) -> None: ...


class Life:
    """One worker process, from its start to its end or death."""

    def __init__(self, world: World, concurrency: int = 1, transactional_id: str = "") -> None:
        """With a `transactional_id`: exactly-once."""
        self.world = world
        spec = pipeline()
        handler = replace(spec.handlers["h"], concurrency=concurrency)
        contracts = {name: Contract(name) for name in spec.topics}
        sources = sources_of(spec, handler, contracts)
        self.ledger = Ledger()
        facts = Facts()
        self.consumer: Any = FakeConsumer(world)
        self.transactions: SimulatedTransactions | None = None
        if transactional_id:
            self.transactions = SimulatedTransactions(
                world, transactional_id, lambda: self.intake.member, self.ledger, facts,
                clock=lambda: world.now, sleep=lambda seconds: self.when_sleeping(), last_seconds=0.0,
            )  # fmt: skip
        receipts: Any = self.transactions or FakeReceipts(world)
        runner: Any = FakeRunner(world)
        guard = Guard(handler, facts, lambda: world.now)
        sender = Sender("g", "p", "h")
        outputs = Outputs(spec, handler, contracts)
        quarantine = Quarantine(FakeChild(runner), self._announce, wary=1 if world.suspects else 0)
        self.journal: Any = FakeJournal()
        attempts = Attempts(
            handler, runner, outputs, receipts, sender, facts, guard, quarantine, self.journal, self.ledger
        )
        parts = (handler, sources, self.ledger, attempts, receipts, facts, guard, lambda: world.now)
        self.pool = FakePool(runner, concurrency)
        pool: Any = self.pool
        apart: Any = FakeApart
        self.loop = Loop(*parts) if concurrency == 1 else ConcurrentLoop(*parts, pool=lambda: pool, apart=apart)
        self.intake = Intake(
            handler,
            sources,
            self.ledger,
            facts,
            lambda _: self.consumer,
            drain_budget=0.0,
            on_assignment=lambda tps: None,
            on_tick=lambda: None,
            rebuild=self.rebuild,
            suspects=self._suspect,
            transactions=self.transactions,
        )
        #: What the thread that polls does while a transaction waits to be tried again.
        self.when_sleeping = self.catch_up
        self.read: dict[int, int] = {}
        self.sources = sources
        self.policy = handler.dedup

    def die(self) -> None:
        """Killed by one of the events that run."""
        self.world.suspects |= set(self.journal.running.values())

    def _suspect(self, part: Partition) -> None:
        part.journal_index = part.tp.partition + 1
        for place in [p for p in self.world.suspects if p[0] == part.tp.partition]:
            self.world.suspects.discard(place)
            if not part.frontier.is_settled(place[1]):
                part.suspects.setdefault(place[1], Strikes())

    def _announce(self, part: Partition, offset: int | None) -> bool:
        """What the thread that polls does when it is asked to."""
        if offset is not None:
            self.ledger.suspect(part, offset, part.suspects[offset]._replace(solo=True))
        if not part.ended:
            self.commit()
        return True

    def commit(self) -> None:
        """What is done once a second."""
        if self.transactions is None:
            self.intake.commit()
        else:
            self.transactions.commit_now()

    def catch_up(self) -> None:
        """The poll brings this member to its group's generation."""
        self.consumer.generation = self.world.generation
        self.intake._note_member()

    def rebuild(self, parts: Sequence[Partition]) -> None:
        """What the thread of that name does, at once."""
        for part in parts:
            for record in self.world.log[part.tp.partition]:
                register(part, self.sources["in"], self.policy, record)
            self.ledger.rebuilt(part)

    def assign(self, *partitions: int) -> None:
        self.world.generation += 1
        self.catch_up()
        committed = []
        for p in partitions:
            offset, metadata = self.world.commits.get(p, (None, None))
            committed.append(Committed(TopicPartition("in", p), offset, metadata))
        starts = self.intake.assigned(committed)
        self.read.update({tp.partition: offset for tp, offset in starts.items()})

    def revoke(self, *partitions: int) -> None:
        self.intake.revoked([TopicPartition("in", p) for p in partitions])
        for p in partitions:
            self.read.pop(p, None)

    def lose(self, *partitions: int) -> None:
        self.world.generation += 1
        self.intake.lost([TopicPartition("in", p) for p in partitions])
        self.catch_up()
        for p in partitions:
            self.read.pop(p, None)

    def deliver(self, partition: int, most: int) -> None:
        """The poll brings up to `most` records; at the end of the log it says so."""
        at = self.read[partition]
        there = [r for r in self.world.log[partition] if r.offset >= at]
        records = there[:most]
        if records:
            self.ledger.receive(records)
            self.read[partition] = records[-1].offset + 1
        if len(records) == len(there) and self.world.log[partition]:
            self.ledger.reach_end(TopicPartition("in", partition), self.world.log[partition][-1].offset + 1)
