"""One transaction after the other, each with a known end: committed, aborted, or reported as not known.

Used by `worker/produce/transactional_barrier.py`.

Rules:
- A transaction that failed is aborted; where its producer is finished, a new one of the same id aborts it at its start.
- Fenced once, this worker was slower than its transaction's timeout. Twice in a minute, somebody else uses its id.
- How a transaction ended that failed for good while it was committed, nobody knows here
  (`kafka/transactional_producer.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.transactional_producer import TransactionalProducer, TransactionError, WaitCancelled

log = logging.getLogger("kpipe.worker")

#: A second fencing within so many seconds is no accident.
FENCED_SECONDS = 60.0

GoOn = Callable[[], bool]


class RecordRefused(Exception):
    """A record of the transaction was not taken."""


class Transactor:
    """Owns the producer. Any thread; one transaction at a time."""

    def __init__(
        self, connect: Callable[[], TransactionalProducer], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._lock = threading.Lock()
        #: Made here, so that properties that cannot be used are told at once; asks Kafka for nothing yet.
        self._fresh: TransactionalProducer | None = connect()
        self._producer: TransactionalProducer | None = None
        self._fenced_at = -FENCED_SECONDS
        #: The last transaction's end is not known: nothing may be committed by this process any more.
        self._lost = False

    def open(self, go_on: GoOn) -> None:
        """Have a producer, and end what a former life of this worker left open. Raises BrokerError and GaveUp."""
        with self._lock:
            self._connected(go_on)

    def run(
        self, fill: Callable[[TransactionalProducer], None], go_on: GoOn, patience: float = -1.0
    ) -> TransactionError | RecordRefused | None:
        """One transaction of what `fill` puts into it; None when it is committed, else why it was aborted.

        Raises BrokerError when this worker must not go on, and GaveUp when `go_on` says no: then nobody knows how it
        ended, save that it does end. GaveUp also when another transaction is under way for longer than `patience`
        (seconds; -1: for ever); then nothing was begun.
        """
        if not self._lock.acquire(timeout=patience):
            raise WaitCancelled
        try:
            producer = self._connected(go_on)
            return self._run(producer, fill, go_on)
        except WaitCancelled:
            self._drop()
            raise
        finally:
            self._lock.release()

    def use(self, connect: Callable[[], TransactionalProducer]) -> None:
        """Make the next transactions with producers of this kind."""
        with self._lock:
            self._connect, self._fresh = connect, None
            self._drop()

    def close(self, timeout: float) -> None:
        """An open transaction is aborted by the next producer of this id, or by its timeout."""
        if self._lock.acquire(timeout=timeout):
            self._drop()
            self._lock.release()

    def _run(
        self, producer: TransactionalProducer, fill: Callable[[TransactionalProducer], None], go_on: GoOn
    ) -> TransactionError | RecordRefused | None:
        committing = False
        try:
            producer.begin()
            fill(producer)
            committing = True
            producer.commit(go_on)
            return None
        except (TransactionError, RecordRefused) as failed:
            self._undo(producer, failed, committing, go_on)
            return failed

    def _undo(
        self, producer: TransactionalProducer, failed: TransactionError | RecordRefused, committing: bool, go_on: GoOn
    ) -> None:
        final = failed if isinstance(failed, TransactionError) and failed.fatal else None
        if final is None:
            try:
                producer.abort(go_on)
                return
            except TransactionError as e:
                final = e
        if committing:
            self._lost = True
            raise BrokerError(
                f"how a transaction ended is not known ({final}); the worker starts again from what Kafka has"
            )
        self._replace(final)

    def _replace(self, final: TransactionError) -> None:
        self._drop()
        if final.fenced:
            now = self._clock()
            if now - self._fenced_at < FENCED_SECONDS:
                raise BrokerError(
                    f"another worker uses the same transactional id ({final})",
                    "KPIPE_INSTANCE has to be another one on every machine, and .kpipe/ must not be copied",
                )
            self._fenced_at = now
        log.warning("the Kafka producer failed for good and is replaced; its transaction is void: %s", final)

    def _connected(self, go_on: GoOn) -> TransactionalProducer:
        if self._lost:
            raise BrokerError("this worker commits nothing any more: how its last transaction ended is not known")
        if self._producer is None:
            producer, self._fresh = self._fresh or self._connect(), None
            try:
                producer.init(go_on)
            except TransactionError as e:
                producer.close(0)
                raise BrokerError(
                    f"Kafka gives us no transactions: {e}", "`guarantee: at-least-once` needs none"
                ) from e
            except (WaitCancelled, ForbiddenError):
                producer.close(0)
                raise
            self._producer = producer
        return self._producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(0)
