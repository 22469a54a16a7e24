"""`python -m orchestrator.worker.entry`: one worker process, from its configuration to its exit code.

Configuration: one JSON document on the pipe that `KPIPE_CONFIG_FD` names: the pipeline with its schemas, as `kpipe up`
has checked them. Of the files that they name only the handler's code is read here. Exit codes: 0 after an orderly stop,
78 when it could not start (never retried), 75 when a handler did not return and could not be cancelled, 76 when it used
more memory than it may, 77 when one of its topics was made anew (it is started again at once), 1 for anything else.
The main thread polls Kafka; a second one runs the handler.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.config import restored
from orchestrator.config.model import Handler, Pipeline
from orchestrator.config.topics import record_limit
from orchestrator.contracts import load_contracts
from orchestrator.delivery.headers.dead_letters import Sender
from orchestrator.delivery.partition import Partition
from orchestrator.errors import (
    EXIT_COULD_NOT_START,
    EXIT_HUNG,
    EXIT_MEMORY,
    EXIT_RENEWED,
    BrokerError,
    FindingsError,
    HandlerError,
    KpipeError,
)
from orchestrator.kafka.clients import LIBRDKAFKA_LOG, Clients
from orchestrator.kafka.epochs import first_above
from orchestrator.kafka.reader import Reader
from orchestrator.kafka.transactional_producer import TransactionalProducer
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Ledger
from orchestrator.worker.consume.dedup_rebuild import Rebuild
from orchestrator.worker.consume.inputs import Input, sources_of
from orchestrator.worker.consume.poller import Intake
from orchestrator.worker.consume.topic_identity import Topics
from orchestrator.worker.engine.attempts import Attempts
from orchestrator.worker.engine.concurrent import ConcurrentLoop
from orchestrator.worker.engine.flow_control import Guard
from orchestrator.worker.engine.pool import pool_for
from orchestrator.worker.engine.serial import Loop
from orchestrator.worker.events import QUIET_SECONDS, WorkerEvents, where
from orchestrator.worker.isolation.memory import collect_seldom, confine, resident
from orchestrator.worker.isolation.quarantine import PythonChild, Quarantine, isolated
from orchestrator.worker.isolation.suspects import Suspicion
from orchestrator.worker.metrics import Measures
from orchestrator.worker.produce.barrier import ProducerBarrier
from orchestrator.worker.produce.kept_records import KeptRecords
from orchestrator.worker.produce.outputs import Outputs
from orchestrator.worker.produce.transactional_barrier import Transactions
from orchestrator.worker.produce.transactional_id import instance_id, transactional_id
from orchestrator.worker.runners.base import load_runner, probe_of
from orchestrator.worker.status import StatusPipe

log = logging.getLogger("kpipe.worker")

#: A sync handler may overrun its timeout by this much before the worker gives it up for hung (seconds).
HUNG_GRACE = 5.0
STATUS_SECONDS = 1.0
#: Kept free of a stop's or rebalance's time for the last commit and for leaving the group (seconds).
LEAVING_SECONDS = 3.0
#: A worker that ends itself takes no longer to commit and to leave its group (seconds).
ABANDON_SECONDS = 3.0
#: What Python gets to end the process by itself (seconds).
FINALIZING_SECONDS = 1.0
_DEFAULT_MAX_POLL_MS = 300_000
#: How long the question about topics' limits may take, before the worker goes on without (seconds).
LIMITS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the supervisor sends."""

    pipeline: Pipeline
    handler: Handler
    bootstrap: str
    slot: int

    @property
    def clients(self) -> Clients:
        return Clients(self.pipeline.kafka, self.bootstrap)


def main() -> int:
    """Run one worker; returns its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    LIBRDKAFKA_LOG.addFilter(Calm())
    report = StatusPipe(_fd("KPIPE_STATUS_FD"))
    os.register_at_fork(after_in_child=report.let_go)
    try:
        worker = Worker(read_config(), report)
    except FindingsError as e:
        return _could_not_start(report, str(e), e.hint)
    except KpipeError as e:
        return _could_not_start(report, e.message, e.hint)
    signal.signal(signal.SIGTERM, worker.on_signal)
    signal.signal(signal.SIGINT, worker.on_signal)
    try:
        return worker.run()
    except KpipeError as e:
        log.error("the worker failed: %s%s", e.message, f" ({e.hint})" if e.hint else "")
        return 1
    finally:
        worker.close()


class Calm(logging.Filter):
    """Of librdkafka's lines, one of each facility in ten seconds: it reports every attempt to reconnect.

    None of GETPID: a producer id is asked for until a broker that just started can give one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        facility = record.getMessage().partition(" ")[0]
        if facility == "GETPID" or record.created - self._last.get(facility, 0.0) < QUIET_SECONDS:
            return False
        self._last[facility] = record.created
        return True


def read_config() -> WorkerConfig:
    """The configuration from the inherited pipe. Raises HandlerError when there is none."""
    fd = _fd("KPIPE_CONFIG_FD")
    if fd is None:
        raise HandlerError("a worker is started by `kpipe up`", "KPIPE_CONFIG_FD is not set")
    with os.fdopen(fd, "rb") as pipe:
        raw = pipe.read()
    said: dict[str, Any] = json.loads(raw)
    pipeline = restored(said["pipeline"])
    bootstrap = pipeline.kafka.bootstrap or said["bootstrap"]
    return WorkerConfig(pipeline, pipeline.handlers[said["handler"]], bootstrap, int(said["slot"]))


class Worker:
    """One replica of a handler: builds the parts, joins them, runs them."""

    def __init__(self, config: WorkerConfig, report: StatusPipe) -> None:
        """Raises KpipeError for whatever keeps it from starting: that is final, a restart would not help."""
        pipeline, handler = config.pipeline, config.handler
        contracts = load_contracts(pipeline)
        collections = gc.get_threshold()
        runner = load_runner(handler, pipeline)
        self._report = report
        self._facts = WorkerEvents(KeptRecords(pipeline.state_dir / "records" / handler.name))
        self._ledger = Ledger()
        self._handler = handler
        #: Whether the handler's code runs in this process.
        self._inside = handler.kind == "python" and handler.interpreter is None
        # The producer comes first: its first acknowledgement is slow when it is used right after its creation.
        self._receipts = self._barrier(config)
        sources = sources_of(pipeline, handler, contracts)
        outputs = Outputs(pipeline, handler, contracts)
        sender = Sender(handler.group, pipeline.name, handler.name)
        self._guard = Guard(handler, self._facts, probe=probe_of(handler, self._ledger.work.set))
        suspicion = Suspicion(handler, pipeline.state_dir / "journal", config.slot, self._ledger, self._facts)
        self._journal = suspicion.journal
        if self._journal.path is not None:
            report.journal(self._journal.path)
        apart = PythonChild(handler, pipeline.base) if self._inside else isolated(runner)
        quarantine = self._quarantine = Quarantine(apart, suspicion.announce, suspicion.wary)
        self._attempts = Attempts(
            handler, runner, outputs, self._receipts, sender, self._facts, self._guard, quarantine, self._journal,
            self._ledger,
        )  # fmt: skip
        parts = (handler, sources, self._ledger, self._attempts, self._receipts, self._facts, self._guard)
        self._loop = (
            Loop(*parts)
            if handler.concurrency == 1 and not hasattr(runner, "pool")
            else ConcurrentLoop(*parts, pool=lambda: pool_for(runner, handler.concurrency, self._ledger.wake))
        )
        clients = config.clients
        properties = clients.consumer_properties(handler.group)
        budget = _drain_budget(handler, properties)
        self._intake = Intake(
            handler,
            sources,
            self._ledger,
            self._facts,
            lambda intake: clients.group_consumer(handler.group, list(sources), intake, _redriven(sources)),
            drain_budget=budget,
            on_assignment=self._assigned,
            on_tick=self._tick,
            halted=lambda: self._guard.halted,
            rebuild=self._rebuild,
            suspects=suspicion.suspect,
            on_drained=self._send_status,
            transactions=self._receipts if isinstance(self._receipts, Transactions) else None,
            topics=_topics(config, sources, properties),
        )
        self._measures = Measures(self._facts.meter, self._ledger, self._guard, lambda: self._loop.overdue(0.0)[0])
        self._sources = sources
        self._consumer_properties = properties
        self._status_due = 0.0
        self._unbalanced: dict[TopicPartition, tuple[int, int, int]] = {}
        self._signals = 0
        self._ready = False
        if handler.memory is not None and self._inside:
            confine(handler.memory, handler.name)
        collect_seldom(collections)

    def _barrier(self, config: WorkerConfig) -> ProducerBarrier | Transactions:
        """What the handler's `guarantee` asks for. Raises UsageError."""
        properties, dense = _producer_properties(config), config.clients.denser()
        if config.handler.guarantee == "at-least-once":
            return ProducerBarrier(properties, self._facts, denser=dense)
        instance = instance_id(os.environ, config.pipeline.state_dir)
        properties["transactional.id"] = transactional_id(config.handler, instance, config.slot)
        return Transactions(
            lambda: TransactionalProducer(properties),
            lambda: self._intake.member,
            self._ledger,
            self._facts,
            denser=(lambda: TransactionalProducer({**properties, **dense})) if dense else None,
        )

    def run(self) -> int:
        self._loop.start()
        self._intake.run()
        self._quarantine.stop()
        self._loop.stop()
        self._loop.join(LEAVING_SECONDS)
        self._receipts.close(LEAVING_SECONDS)
        error = self._loop.error
        if isinstance(error, KpipeError):
            raise error
        if error is not None:
            log.error("the worker failed", exc_info=error)
            return 1
        return EXIT_RENEWED if self._intake.renewing and not self._signals else 0

    def close(self) -> None:
        """An end of its own will: nothing that runs is to be blamed for it."""
        self._journal.close()

    def on_signal(self, number: int, frame: object) -> None:
        """The first signal drains and stops; the second ends the process at once."""
        self._signals += 1
        if self._signals > 1:
            self.close()
            os._exit(128 + number)
        self._intake.stop()

    def _rebuild(self, parts: Sequence[Partition]) -> None:
        policy = self._handler.dedup
        if parts and policy is not None:
            properties = self._consumer_properties
            Rebuild(parts, self._sources, policy, self._ledger, lambda: Reader(properties), self._fail).start()

    def _fail(self, error: BaseException) -> None:
        self._loop.error = self._loop.error or error

    def _assigned(self, partitions: object) -> None:
        self._ready = partitions is not None
        if partitions is None:
            self._report.not_ready()
        else:
            self._report.ready([part.tp for part in self._ledger.partitions])

    def _tick(self) -> None:
        now = time.monotonic()
        if self._loop.error is not None:
            self._intake.stop()
        record, late = self._loop.overdue(now)
        if late > HUNG_GRACE:
            self._hung(record)
        self._journal.ended_well(self._guard.done)
        if self._handler.memory is not None and self._inside:
            self._check_memory(self._handler.memory)
        if self._ready and now >= self._status_due:
            self._status_due = now + STATUS_SECONDS
            self._send_status()

    def _send_status(self) -> None:
        tally, flying = self._ledger.totals()
        accounting = {
            "in": tally.settled + flying,
            "done": tally.done,
            "dead_lettered": tally.dead_lettered,
            "skipped": tally.skipped,
            "in_flight": flying,
        }
        lags, paused = self._intake.lags(), self._intake.paused
        known = [lag for lag in lags.values() if lag is not None]
        lag = sum(known) if known or not lags else None
        self._check_balance()
        self._report.status(accounting, lag, paused, self._guard.state, self._facts.last_error)
        self._report.measured(self._measures.measured(paused), self._measures.places(lags))

    def _check_balance(self) -> None:
        """The accounting has to add up (DESIGN section 5, step 15): a second's standing difference is an alarm."""
        unbalanced = self._ledger.unbalanced()
        for tp, (settled, flying, there) in unbalanced.items():
            if self._unbalanced.get(tp) == (settled, flying, there):
                self._facts.alarm(
                    f"{tp.topic}[{tp.partition}]: the accounting is wrong:"
                    f" {flying} event(s) are in flight, and {there} are there"
                )
        self._unbalanced = unbalanced

    def _hung(self, record: Record | None) -> None:
        """A sync handler did not return and cannot be cancelled: its process has to end (DESIGN section 5, step 8)."""
        self._facts.alarm(f"{'' if record is None else where(record)}: the handler did not return; ending its process")
        self._journal.hung()
        self._abandon(EXIT_HUNG)

    def _check_memory(self, limit: int) -> None:
        starved = self._attempts.starved
        if starved is not None or resident(os.getpid()) > limit:
            what = "" if starved is None else f"{where(starved)}: "
            self._facts.alarm(f"{what}more than {limit // 1_000_000} MB of memory are wanted; ending this process")
            self._abandon(EXIT_MEMORY)

    def _abandon(self, code: int) -> None:
        """End this process: what runs cannot be stopped otherwise. What settled is committed, the group is left."""
        last = threading.Timer(ABANDON_SECONDS, os._exit, [code])
        last.daemon = True
        last.start()
        self._send_status()
        try:
            self._intake.abandon()
        except KpipeError as e:
            log.error("leaving the group failed: %s", e.message)
        os._exit(code)


def _redriven(sources: Mapping[str, Input]) -> list[str]:
    """The topic that exists only once letters were sent back."""
    return [name for name, source in sources.items() if source.origins is not None]


def _topics(config: WorkerConfig, sources: Mapping[str, Input], consumer: Mapping[str, Any]) -> Topics:
    """Every topic that this worker reads or writes."""
    pipeline, handler = config.pipeline, config.handler
    dlqs = [dlq.name for source in sources.values() for dlq in (source.dlq, source.contract_dlq) if dlq is not None]
    outputs = [pipeline.topics[name].kafka_name for name in handler.produces]
    return Topics(
        list(dict.fromkeys([*sources, *outputs, *dlqs])),
        config.clients.topic_ids(),
        lambda: Reader(consumer),
        partial(first_above, consumer),
    )


def _producer_properties(config: WorkerConfig) -> dict[str, Any]:
    """With batches that fit into the smallest topic that this worker writes to: a broker refuses a batch as a whole."""
    smallest = min(_limits(config), default=None)
    return config.clients.producer_properties(smallest)


def _limits(config: WorkerConfig) -> list[int]:
    """The record limits of the topics that this worker writes to, in bytes.

    As they are on the cluster, where somebody else may have changed them, or in the file where it does not say.
    """
    pipeline, handler = config.pipeline, config.handler
    dlqs = {pipeline.topics[name].dlq for name in handler.consumes} | {handler.dlq}
    topics = [topic for name, topic in pipeline.topics.items() if name in handler.produces or name in dlqs]
    if not topics:
        return []
    try:
        admin = config.clients.admin(timeout=LIMITS_SECONDS)
        actual = admin.describe([topic.kafka_name for topic in topics]).topics
    except BrokerError as e:
        log.warning("the record limits of the topics are not known, those of the file are taken: %s", e.message)
        actual = {}
    found = {name: state.record_limit for name, state in actual.items()}
    return [found.get(topic.kafka_name) or record_limit(topic) for topic in topics]


def _drain_budget(handler: Handler, properties: dict[str, Any]) -> float:
    """Seconds that running events get when partitions are taken away or the worker stops.

    Below `max.poll.interval.ms`, past which the group would throw this member out, and below the stop timeout, past
    which the supervisor kills it.
    """
    max_poll = float(properties.get("max.poll.interval.ms", _DEFAULT_MAX_POLL_MS)) / 1000
    return max(1.0, min(handler.timeout + HUNG_GRACE, max_poll / 2, handler.stop_timeout - LEAVING_SECONDS))


def _could_not_start(report: StatusPipe, message: str, hint: str) -> int:
    report.failed_to_start(message, hint)
    log.error("could not start: %s%s", message, f" ({hint})" if hint else "")
    return EXIT_COULD_NOT_START


def _fd(name: str) -> int | None:
    """An inherited pipe. What the handler starts does not get it: a program that lives on would hold it open."""
    said = os.environ.pop(name, "")
    if not said.isdigit():
        return None
    os.set_inheritable(int(said), False)
    return int(said)


def _end_within(seconds: float, code: int) -> None:
    """End the process even if a thread that a handler left behind (an executor's, say) keeps Python from ending it."""
    sys.stdout.flush()
    last = threading.Timer(seconds, os._exit, [code])
    last.daemon = True
    last.start()


if __name__ == "__main__":
    exit_code = 1
    try:
        exit_code = main()
    finally:
        _end_within(FINALIZING_SECONDS, exit_code)
    sys.exit(exit_code)
