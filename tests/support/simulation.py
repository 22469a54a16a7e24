"""The real worker loop, ledger and intake on a virtual clock, between a scripted group and a scripted broker.

One thread drives everything, so that a history is a list of choices and a failure shrinks to a short one. Nothing of
Kafka is imitated beyond what the loop can see: records arrive in order, receipts come or fail, offsets are committed.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from confluent_kafka import KafkaError

from orchestrator.config.model import DedupPolicy, Handler, KafkaSettings, Pipeline, RetryPolicy, Topic
from orchestrator.contracts import Contract
from orchestrator.delivery.headers.dead_letters import TRUNCATED, Sender
from orchestrator.delivery.offsets.checkpoint import LIMIT, Checkpoint, read_checkpoint
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.strikes import WHOLE, Strikes
from orchestrator.event import Emit, Event
from orchestrator.kafka.consumer import CommitRequest, Committed, Membership
from orchestrator.kafka.producer import OnReport, SendFailure, outgoing_of
from orchestrator.records import Outgoing, Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.dedup_rebuild import register
from orchestrator.worker.consume.inputs import sources_of
from orchestrator.worker.consume.poller import Poller, PollerHooks
from orchestrator.worker.engine.attempts import Attempts
from orchestrator.worker.engine.concurrent import ConcurrentEngine
from orchestrator.worker.engine.flow_control import FlowControl
from orchestrator.worker.engine.serial import SerialEngine
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.isolation.quarantine import Quarantine
from orchestrator.worker.produce.barrier import Post, ProducerBarrier, Waiting
from orchestrator.worker.produce.batch import Batch, Told
from orchestrator.worker.produce.outputs import Outputs
from tests.support.transactions import SimulatedTransactions, cause_of

logging.getLogger("kpipe.worker").setLevel(logging.CRITICAL)

ATTEMPTS = 3
FASTEST = 4
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
    #: The DLQ takes not even the shortest letter.
    tight: bool = False
    #: Outcome of each run, drawn when it happens: (partition, offset, attempt) -> one of OUTCOMES.
    draw: Callable[[Record], str] = lambda record: "ok"
    fails: Callable[[Outgoing], SendFailure | None] = lambda out: None
    #: Something that happens while a handler runs or receipts are out.
    meanwhile: Callable[[], None] = lambda: None
    #: How many records the broker takes until it is asked again (modulo FASTEST), and of which topic first (the rest).
    pace: Callable[[], int] = lambda: FASTEST - 1
    #: What becomes of a commit that is not waited for (`FakeConsumer.answer`).
    commit_answer: Callable[[], str] = lambda: "made"
    #: Events that had nothing to write when they ran; should they not have settled, they may have the next time.
    hushed: set[tuple[int, int]] = field(default_factory=set)
    #: Records whose producer has stopped waiting for them.
    on_its_way: list[Outgoing] = field(default_factory=list)
    #: By partition: what the metadata said before it was spoiled, as long as nobody has begun with that.
    spoiled: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    #: By partition: events that were settled when their commit's metadata got lost, and are not in its accounting.
    uncounted: dict[int, int] = field(default_factory=dict)
    #: Events that only such metadata said were settled.
    forgotten: set[tuple[int, int]] = field(default_factory=set)
    now: float = 0.0
    #: Transactions: what becomes of the next one, the current epoch of each id, and the group's generation.
    fate: Callable[[], str] = lambda: "ok"
    epochs: dict[str, int] = field(default_factory=dict)
    generation: int = 0
    #: Whether the accounting has to be exact.
    exact: bool = True
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
            before = self.commits.get(request.tp.partition)
            assert before is None or before[0] <= request.offset, "a commit goes back"
            self.commits[request.tp.partition] = (request.offset, request.metadata)
            self.spoiled.pop(request.tp.partition, None)
            self.check_commit(request.tp.partition)

    def spoil(self, partition: int, metadata: str) -> None:
        """Somebody else commits the same offset with metadata of his own."""
        if partition in self.commits:
            offset, was = self.commits[partition]
            self.commits[partition] = (offset, metadata)
            settled = read_checkpoint(offset, was).settled
            lost = {(partition, at) for first, end in settled for at in range(first, end)}
            self.spoiled[partition] = self.spoiled.get(partition, set()) | lost

    def forget(self, partition: int) -> None:
        """An epoch begins with what is committed: what spoiled metadata said is lost now."""
        if partition in self.spoiled:
            offset = self.commits[partition][0]
            self.forgotten |= self.spoiled.pop(partition)
            self.uncounted[partition] = sum(record.offset < offset for record in self.log[partition])

    def arrive(self, out: Outgoing) -> None:
        """The broker has the record."""
        place = cause_of(out)
        self.acknowledged.append((out.topic, *place))
        self.completed.setdefault(place, out.topic)

    def arrive_late(self, most: int) -> None:
        """Up to so many of those arrive for which nobody waits any more; the others never do."""
        for out in self.on_its_way[:most]:
            if self.refusal(out, cause_of(out)) is not None:
                break
            self.arrive(out)
        self.on_its_way.clear()

    def end_silently(self, record: Record, *, skipped: bool) -> None:
        """The event's run is over, and it has nothing to write."""
        place = (record.partition, record.offset)
        self.silent.add(place)
        if skipped:
            self.skipped.add(place)
        else:
            self.completed.setdefault(place, "")

    def refusal(self, out: Outgoing, place: tuple[int, int]) -> SendFailure | None:
        """Why a record is not taken, by itself. A letter that was cut is never too large, unless the DLQ is `tight`."""
        cut = any(name == TRUNCATED for name, _ in out.headers)
        failure = (None if cut else self.too_large.get((out.topic, *place))) or self.fails(out)
        if failure is not None and failure.permanent:
            if cut:
                return failure if self.tight else None
            self.too_large[out.topic, *place] = failure
        return failure

    def check_commit(self, partition: int) -> None:
        """No commit covers an unsettled event, and each counts the events that it covers."""
        offset, metadata = self.commits[partition]
        assert len(metadata) <= LIMIT
        checkpoint = read_checkpoint(offset, metadata)
        covered = {(partition, r.offset) for r in self.log[partition] if covers(checkpoint, r.offset)}
        ended = {(p, o) for _, p, o in self.acknowledged} | self.silent
        assert covered <= ended, f"the commit {checkpoint} covers unsettled {covered - ended}"
        counted = checkpoint.tally.settled + self.uncounted.get(partition, 0)
        assert counted == len(covered) or not self.exact, (
            f"the commit {checkpoint} counts {counted} events of {len(covered)}"
        )


def covers(checkpoint: Checkpoint, offset: int) -> bool:
    return offset < checkpoint.offset or any(first <= offset < end for first, end in checkpoint.settled)


class FakeConsumer:
    """Only what `Poller` calls outside of `run`. The script says when a commit is answered that is not waited for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._waiting: list[CommitRequest] = []
        self._failed: Callable[[Sequence[TopicPartition], str], None] = lambda tps, why: None

    committing = False
    generation = 0

    def membership(self) -> Membership:
        return Membership(self.generation)

    def on_commit_failure(self, told: Callable[[Sequence[TopicPartition], str], None]) -> None:
        self._failed = told

    def commit(self, requests: Sequence[CommitRequest], *, wait: bool) -> None:
        if wait:
            self.answer("made")  # the broker answers in order
            self.world.commit(requests)
        elif requests:
            assert not self.committing, "one that is repeated could overtake the other"
            self._waiting, self.committing = list(requests), True
            self.answer(self.world.commit_answer())

    def answer(self, how: str) -> None:
        """What becomes of the commit on its way: `made`, `unheard` (made, and told as failed), `refused`, `late`."""
        if not self.committing or how == "late":
            return
        waiting, self._waiting, self.committing = self._waiting, [], False
        if how in ("made", "unheard"):
            self.world.commit(waiting)
        if how != "made":
            self._failed([request.tp for request in waiting], how)

    def ends_of(self, tp: TopicPartition) -> tuple[int, int]:
        log = self.world.log[tp.partition]
        return (0, log[-1].offset + 1 if log else 0)

    def end_epochs(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {}


class FakeProducer:
    """Takes records in order for each topic, as many at a time as the script says, and tells of failures only.

    Of the topics one goes before the other as it happens; what was taken is told with the next call, so that an epoch
    can end in between. What is on its way when everything else is thrown away arrives later, or never; whoever flushes
    after that waits for it as well.
    A refusal of one record alone is permanent (too large). Any other is about the topic or the producer, and then the
    rest of what was sent there fails with it, as it does in librdkafka.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.fatal: KafkaError | None = None
        self._queues: dict[str, list[tuple[Outgoing, OnReport]]] = {}
        self._untold = 0
        self._on_its_way: list[tuple[Outgoing, OnReport]] = []

    def post(self, out: Outgoing, on_report: OnReport, should_stop: object) -> None:
        self._queues.setdefault(out.topic, []).append((out, on_report))

    def produce(
        self, topic: str, value: bytes, key: str | None, _: int, on_report: OnReport, __: None, ___: int, headers: Any
    ) -> None:
        self.post(outgoing_of(topic, key, value, headers), on_report, None)

    def flush(self, timeout: float) -> int:
        if self._untold:
            self.world.meanwhile()
        self._untold = 0
        self._land()
        pace = self.world.pace()
        for _ in range(pace % FASTEST):
            topics = [topic for topic, queue in self._queues.items() if queue]
            if not topics:
                break
            self.world.meanwhile()
            self._untold += self._take(topics[pace // FASTEST % len(topics)])
        return self._untold + sum(map(len, self._queues.values()))

    def purge(self) -> None:
        for queue in self._queues.values():
            on_its_way = queue[: self.world.pace() % FASTEST]
            self.world.on_its_way += [out for out, _ in on_its_way]
            self._on_its_way += on_its_way
            for out, on_report in queue[len(on_its_way) :]:
                on_report(SendFailure("_PURGE_QUEUE", out.topic, purged=True), None)
        self._queues.clear()
        self._untold = 0

    def close(self, timeout: float) -> int:
        return 0

    def _land(self) -> None:
        """What was on its way arrives now, unless it did, or never will."""
        for out, on_report in self._on_its_way:
            known = [number for number, other in enumerate(self.world.on_its_way) if other is out]
            failure = self.world.refusal(out, cause_of(out)) if known else None
            if known and failure is None:
                self.world.arrive(self.world.on_its_way.pop(known[0]))
            elif failure is not None or (out.topic, *cause_of(out)) not in self.world.acknowledged:
                on_report(failure or SendFailure("_TIMED_OUT", out.topic), None)
        self._on_its_way.clear()

    def _take(self, topic: str) -> int:
        """The topic's leader looks at its first record; how many it took."""
        out, on_report = self._queues[topic].pop(0)
        failure = self.world.refusal(out, cause_of(out))
        if failure is None:
            self.world.arrive(out)
            return 1
        if failure.fatal and len(self._queues) > 1:  # then reports are missing
            self._queues.clear()
            self.fatal = KafkaError(KafkaError._FATAL, fatal=True)
            return 0
        on_report(failure, None)
        if not failure.permanent:
            for down in list(self._queues) if failure.fatal else [topic]:
                for _, told in self._queues.pop(down):
                    told(failure, None)
        return 0


class SimulatedReceipts(ProducerBarrier):
    """Notes what comes to its end without a record, as the world cannot see that."""

    def __init__(self, world: World, facts: WorkerEvents) -> None:
        connect: Any = lambda properties: FakeProducer(world)  # noqa: E731
        super().__init__({}, facts, connect)
        self.world = world
        self._speaking: set[tuple[Batch, int]] = set()

    def send(self, out: Outgoing, batch: Batch, told: Told | None = None) -> None:
        self._speaking.add((batch, len(batch.records) - 1))
        super().send(out, batch, told)

    def poster(self, batch: Batch, most: int) -> Post:
        post = super().poster(batch, most)

        def noted(*record: Any) -> None:
            self._speaking.add((batch, record[-1]))
            post(*record)

        return noted

    def wait(self, waiting: Sequence[Waiting], stopping: Callable[[], bool]) -> list[bool]:
        speaking, self._speaking = self._speaking, set()
        answers = super().wait(waiting, stopping)
        for (batch, _), ok in zip(waiting, answers, strict=True):
            failed = set()
            for index, record in enumerate(batch.records):
                if index in batch.failures:
                    failed.add(record.key)
                elif ok and not batch.over and (batch, index) not in speaking and record.key not in failed:
                    self.world.end_silently(record, skipped=index in batch.skipped)
        return answers


class FakePool:
    """Events run when `answer` says so, in whatever order."""

    outside = False
    error: BaseException | None = None

    def __init__(self, runner: FakeRunner, size: int) -> None:
        self.size = size
        self.answers: SimpleQueue[Any] = SimpleQueue()
        self.started: list[tuple[Event, Any]] = []
        self._told: list[tuple[Any, Any]] = []
        self._runner = runner

    def start(self, event: Event, token: Any) -> None:
        self.started.append((event, token))

    def answer(self, most: int, turn: int, *, again: bool = False) -> None:
        """Up to `most` of the events that run come to their end; `turn` mixes their order.

        `again`: they are told twice, and what was told the time before once more.
        """
        turn = turn % max(1, len(self.started))
        self.started = self.started[turn:] + self.started[:turn]
        done, self.started = self.started[:most], self.started[most:]
        told = []
        for event, token in done:
            told.append((token, self._runner.run(event)))
            self.answers.put(told[-1])
        for answer in [*told, *self._told] if again else ():
            self.answers.put(answer)
        self._told = told

    def close(self) -> None: ...


class Died(BaseException):
    """The process is gone: nothing of its memory is left."""


class FakeJournal:
    """What is in flight, read by the world when the process dies."""

    def __init__(self) -> None:
        self.running: dict[int, tuple[int, int]] = {}
        self.deadline = [0.0]

    @property
    def offset(self) -> FakeJournal:
        return self

    def __setitem__(self, item: int, offset: int) -> None:
        self.running[0] = (self.running[0][0], offset)

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
    """A handler whose outcomes are drawn from the script. `begun` are the checkpoints that epochs began with."""

    inline = alone = None

    def __init__(self, world: World, begun: Mapping[int, Checkpoint]) -> None:
        self.world = world
        self._begun = begun

    def run(self, event: Event) -> list[Emit] | Failed:
        self.world.meanwhile()
        assert event.attempt <= ATTEMPTS, "more attempts than allowed"
        record = event._record
        assert not covers(self._begun[record.partition], record.offset), "what a commit covers is not run again"
        if (record.partition, record.offset) in self.world.poison:
            raise Died
        outcome = self.world.draw(record)
        if outcome == "ok":
            return [Emit("out", {"of": record.offset})]
        if outcome == "silent":
            self.world.hushed.add((record.partition, record.offset))
            return []
        if outcome == "undeclared":
            return [Emit("elsewhere", {})]
        return Failed(outcome, "scripted")  # type: ignore[arg-type]

    def close(self) -> None: ...


class SimulatedHooks(PollerHooks):
    def __init__(self, life: Life) -> None:
        self._life = life

    def opened(self, part: Partition) -> None:
        self._life.suspect(part)

    def rebuild(self, parts: Sequence[Partition]) -> None:
        self._life.rebuild(parts)


class Life:
    """One worker process, from its start to its end or death."""

    def __init__(self, world: World, concurrency: int = 1, transactional_id: str = "") -> None:
        """With a `transactional_id`: exactly-once."""
        self.world = world
        spec = pipeline()
        handler = replace(spec.handlers["h"], concurrency=concurrency)
        contracts = {name: Contract(name) for name in spec.topics}
        sources = sources_of(spec, handler, contracts)
        self.ledger = Assignments()
        self.facts = facts = WorkerEvents()
        self.consumer: Any = FakeConsumer(world)
        self.transactions: SimulatedTransactions | None = None
        if transactional_id:
            self.transactions = SimulatedTransactions(
                world, transactional_id, self._member, self.ledger, facts,
                clock=lambda: world.now, sleep=lambda seconds: self.when_sleeping(), last_seconds=0.0,
            )  # fmt: skip
        receipts: Any = self.transactions or SimulatedReceipts(world, facts)
        #: What the group had committed when each partition was assigned.
        self.begun: dict[int, Checkpoint] = {}
        runner: Any = FakeRunner(world, self.begun)
        guard = FlowControl(handler, facts, lambda: world.now)
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
        self.loop = (
            SerialEngine(*parts) if concurrency == 1 else ConcurrentEngine(*parts, pool=lambda: pool, apart=apart)
        )
        self.intake = Poller(
            handler,
            sources,
            self.ledger,
            facts,
            lambda _: self.consumer,
            SimulatedHooks(self),
            drain_budget=0.0,
            transactions=self.transactions,
        )
        #: What the thread that polls does while a transaction waits to be tried again.
        self.when_sleeping = self.catch_up
        self.read: dict[int, int] = {}
        self.sources = sources
        self.policy = handler.dedup

    def _member(self) -> Membership | None:
        """Much may happen before the thread that runs handlers asks."""
        self.world.meanwhile()
        return self.intake.member

    def die(self) -> None:
        """Killed by one of the events that run."""
        self.world.suspects |= set(self.journal.running.values())

    def suspect(self, part: Partition) -> None:
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
        """What is done once a second; what was late is answered now."""
        late = self.consumer.committing
        if self.transactions is None:
            self.intake.commit()
            if late:
                self.consumer.answer("made")
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
            register(part, self.sources["in"], self.policy, self.world.log[part.tp.partition])
            self.ledger.rebuilt(part)

    def assign(self, *partitions: int) -> None:
        self.world.generation += 1
        self.catch_up()
        committed = []
        for p in partitions:
            offset, metadata = self.world.commits.get(p, (None, None))
            committed.append(Committed(TopicPartition("in", p), offset, metadata))
            self.world.forget(p)
            self.begun[p] = Checkpoint(0) if offset is None else read_checkpoint(offset, metadata)
        starts = self.intake.assigned(committed)
        self.read.update({tp.partition: offset for tp, offset in starts.items()})

    def revoke(self, *partitions: int) -> None:
        self.intake.revoked([TopicPartition("in", p) for p in partitions])
        for p in partitions:
            self.read.pop(p, None)

    def lose(self, *partitions: int) -> None:
        self.consumer.answer("refused")
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
