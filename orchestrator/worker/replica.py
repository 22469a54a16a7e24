"""One replica of a handler while it runs: its two threads, its reports, and the ways in which it ends."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.config.model import Handler
from orchestrator.delivery.partition import Partition
from orchestrator.errors import EXIT_HUNG, EXIT_MEMORY, EXIT_OK, EXIT_RENEWED, EXIT_UNEXPECTED, KpipeError
from orchestrator.kafka.reader import Reader
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.dedup_rebuild import DedupRebuild
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.consume.poller import Poller, PollerHooks
from orchestrator.worker.engine.attempts import Attempts
from orchestrator.worker.engine.flow_control import FlowControl
from orchestrator.worker.engine.serial import SerialEngine
from orchestrator.worker.events import WorkerEvents, where
from orchestrator.worker.isolation.memory import resident
from orchestrator.worker.isolation.quarantine import Quarantine
from orchestrator.worker.isolation.suspects import Suspects
from orchestrator.worker.metrics import WorkerMetrics
from orchestrator.worker.produce.barrier import ProducerBarrier
from orchestrator.worker.produce.transactional_barrier import TransactionalBarrier
from orchestrator.worker.status import StatusPipe

log = logging.getLogger("kpipe.worker")

#: A sync handler may overrun its timeout by this much before the worker gives it up for hung (seconds).
HUNG_GRACE = 5.0
#: Seconds between two reports of the worker's state.
STATUS_SECONDS = 1.0
#: Kept free of a stop's or rebalance's time for the last commit and for leaving the group (seconds).
LEAVING_SECONDS = 3.0
#: A worker that ends itself takes no longer to commit and to leave its group (seconds).
ABANDON_SECONDS = 3.0


@dataclass(frozen=True)
class Parts:
    """What a replica consists of. `inside`: the handler's code runs in this process."""

    handler: Handler
    inside: bool
    report: StatusPipe
    inputs: Mapping[str, Input]
    ledger: Assignments
    facts: WorkerEvents
    guard: FlowControl
    suspects: Suspects
    quarantine: Quarantine
    attempts: Attempts
    barrier: ProducerBarrier | TransactionalBarrier
    loop: SerialEngine
    measures: WorkerMetrics
    #: Makes a reader of the consumed topics.
    reader: Callable[[], Reader]


class Worker(PollerHooks):
    """Runs the parts: the calling thread polls, a second one runs the handler."""

    def __init__(self, parts: Parts, poller: Callable[[PollerHooks], Poller]) -> None:
        self._parts = parts
        self._handler = parts.handler
        self._report = parts.report
        self._facts = parts.facts
        self._ledger = parts.ledger
        self._guard = parts.guard
        self._loop = parts.loop
        self._journal = parts.suspects.journal
        self._status_due = 0.0
        self._unbalanced: dict[TopicPartition, tuple[int, int, int]] = {}
        self._signals = 0
        self._ready = False
        self.poller = poller(self)

    def run(self) -> int:
        """Until it is asked to stop. Returns the exit code; raises KpipeError."""
        self._loop.start()
        self.poller.run()
        self._parts.quarantine.stop()
        self._loop.stop()
        self._loop.join(LEAVING_SECONDS)
        self._parts.barrier.close(LEAVING_SECONDS)
        error = self._loop.error
        if isinstance(error, KpipeError):
            raise error
        if error is not None:
            log.error("the worker failed", exc_info=error)
            return EXIT_UNEXPECTED
        return EXIT_RENEWED if self.poller.renewing and not self._signals else EXIT_OK

    def close(self) -> None:
        """Clean shutdown: clear the journal, so that no event in flight becomes a suspect."""
        self._journal.close()

    def on_signal(self, number: int, frame: object) -> None:
        """The first signal drains and stops; the second ends the process at once."""
        self._signals += 1
        if self._signals > 1:
            self.close()
            os._exit(128 + number)
        self.poller.stop()

    def rebuild(self, parts: Sequence[Partition]) -> None:
        policy = self._handler.dedup
        if parts and policy is not None:
            DedupRebuild(parts, self._parts.inputs, policy, self._ledger, self._parts.reader, self._fail).start()

    def opened(self, part: Partition) -> None:
        self._parts.suspects.suspect(part)

    def halted(self) -> bool:
        return self._guard.halted

    def drained(self) -> None:
        self._send_status()

    def _fail(self, error: BaseException) -> None:
        self._loop.error = self._loop.error or error

    def assigned(self, partitions: Sequence[TopicPartition] | None) -> None:
        self._ready = partitions is not None
        if partitions is None:
            self._report.not_ready()
        else:
            self._report.ready([part.tp for part in self._ledger.partitions])

    def tick(self) -> None:
        now = time.monotonic()
        if self._loop.error is not None:
            self.poller.stop()
        record, late = self._loop.overdue(now)
        if late > HUNG_GRACE:
            self._hung(record)
        self._journal.ended_well(self._guard.done)
        if self._handler.memory is not None and self._parts.inside:
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
        lags, paused = self.poller.lags(), self.poller.paused
        numbers = [lag for lag in lags.values() if lag is not None]
        lag = sum(numbers) if numbers or not lags else None
        self._check_balance()
        self._report.status(accounting, lag, paused, self._guard.state, self._facts.last_error)
        self._report.measured(self._parts.measures.measured(paused), self._parts.measures.places(lags))

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
        starved = self._parts.attempts.starved
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
            self.poller.abandon()
        except KpipeError as e:
            log.error("leaving the group failed: %s", e.message)
        os._exit(code)
