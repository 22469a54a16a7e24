"""Sending what events caused, and the barrier behind which they are settled. DESIGN section 5, step 10."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from orchestrator.delivery.checkpoint import Checkpoint
from orchestrator.kafka.producer import OnDelivery, Producer, SendFailure, failure_of
from orchestrator.records import Outgoing
from orchestrator.worker.batch import Batch, Told
from orchestrator.worker.facts import Facts

log = logging.getLogger("kpipe.worker")

#: Receipts that are out for so long are an alarm, repeated as often (seconds).
ALARM_SECONDS = 10.0


class Plan(NamedTuple):
    """What settles at a barrier as far as is known: all of the batch but these indices, and where that leads."""

    left_out: Container[int]
    checkpoint: Checkpoint


class Barrier(Protocol):
    """How what events caused is sent, and what has to be true before they settle. One batch at a time."""

    def open(self, stopping: Callable[[], bool]) -> None:
        """Called once, by the thread that runs handlers, before anything else."""
        ...

    def send(self, out: Outgoing, batch: Batch, told: Told | None = None) -> None:
        """`out` is caused by the record that `batch` added last. `told` hears whether it was written."""
        ...

    def wait(self, batch: Batch, stopping: Callable[[], bool], plan: Callable[[], Plan]) -> bool:
        """Wait until what `plan` tells may settle; False: nothing of the batch may. `batch.failures` did not work."""
        ...

    def tidy(self, stopping: Callable[[], bool]) -> None:
        """Called between batches."""
        ...


class Receipts:
    """The worker's producer and its receipts. One batch at a time: no other shares the producer."""

    def __init__(self, properties: Mapping[str, Any], facts: Facts) -> None:
        self._properties = properties
        self._facts = facts
        self._producer = Producer(properties)

    def open(self, stopping: Callable[[], bool]) -> None:
        """Nothing to prepare."""

    def tidy(self, stopping: Callable[[], bool]) -> None:
        """Nothing to do: the thread that polls commits."""

    def send(self, out: Outgoing, batch: Batch, told: Told | None = None) -> None:
        """Queue `out` on behalf of the record that `batch` added last; nothing any more once the epoch has ended.

        Its event runs again at the partition's next owner, whose outputs this one would follow. `told` hears the
        receipt, too.
        """
        if batch.over:
            return
        batch.sent += 1
        receipt = partial(batch.receipt, len(batch.records) - 1)
        self._producer.send(out, receipt if told is None else _both(receipt, told), lambda: batch.over)

    def wait(self, batch: Batch, stopping: Callable[[], bool], plan: Callable[[], Plan]) -> bool:
        """Until each record that the batch sent is acknowledged or reported as failed.

        False when the epoch ended first, or the worker has to stop: what is still queued is thrown away, and
        nothing of the batch may settle.
        """
        if not batch.sent:
            return True
        alarm = time.monotonic() + ALARM_SECONDS
        while self._producer.flush(0.1) and self._producer.fatal is None:
            if batch.over or stopping():
                self._producer.purge()
                return False
            if time.monotonic() > alarm:
                alarm = time.monotonic() + ALARM_SECONDS
                self._facts.alarm("Kafka has not acknowledged what was sent; waiting")
        if self._producer.fatal is not None:
            # Which reports are missing is not known: all of the batch runs again.
            why = failure_of(self._producer.fatal)._replace(fatal=True, permanent=False)
            batch.failures.update(dict.fromkeys(range(len(batch.records)), why))
        if any(failure.fatal for failure in batch.failures.values()):
            self._replace()
        return not any(failure.purged for failure in batch.failures.values())

    def close(self, timeout: float) -> None:
        self._producer.close(timeout)

    def _replace(self) -> None:
        """A fatal producer sends nothing more; all it had not delivered is reported as failed and runs again."""
        old, self._producer = self._producer, Producer(self._properties)
        old.close(0)
        log.warning("the Kafka producer failed for good and was replaced; unsettled events run again")


def _both(receipt: OnDelivery, told: Told) -> OnDelivery:
    def report(failure: SendFailure | None, partition: int, offset: int) -> None:
        receipt(failure, partition, offset)
        told(failure)

    return report
