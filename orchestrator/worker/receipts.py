"""Sending what events caused, and the barrier behind which they are settled. DESIGN section 5, step 10."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

from orchestrator.delivery.checkpoint import Checkpoint
from orchestrator.kafka.producer import ONLY_FAILURES, Producer, SendFailure, failure_of
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
    """The worker's producer and its receipts. One batch at a time: no other shares the producer.

    What was written is not reported, one record at a time; that all of a batch was, the barrier proves: `flush`
    returned 0 and no failure was reported.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        facts: Facts,
        connect: Callable[[Mapping[str, Any]], Producer] = Producer,
    ) -> None:
        """`connect` makes a producer of these properties."""
        self._properties = {**properties, **ONLY_FAILURES}
        self._facts = facts
        self._connect = connect
        self._producer = connect(self._properties)
        #: Who wants to know what became of a record, with the failures of it.
        self._told: list[tuple[Told, dict[int, SendFailure]]] = []

    def open(self, stopping: Callable[[], bool]) -> None:
        """Nothing to prepare."""

    def tidy(self, stopping: Callable[[], bool]) -> None:
        """Nothing to do: the thread that polls commits."""

    def send(self, out: Outgoing, batch: Batch, told: Told | None = None) -> None:
        """Queue `out` on behalf of the record that `batch` added last; nothing any more once the epoch has ended.

        Its event runs again at the partition's next owner, whose outputs this one would follow. `told` hears the
        receipt, too.
        """
        if batch.part.ended:
            return
        batch.sent += 1
        index = len(batch.records) - 1
        if told is None:
            self._producer.post(out, partial(_failed, batch.failures, index), batch.stalled)
        else:
            failures: dict[int, SendFailure] = {}
            self._told.append((told, failures))
            self._producer.post(out, partial(_failed_both, batch.failures, failures, index), batch.stalled)

    def wait(self, batch: Batch, stopping: Callable[[], bool], plan: Callable[[], Plan]) -> bool:
        """Until each record that the batch sent is acknowledged or reported as failed.

        False when the epoch ended first, or the worker has to stop: what is still queued is thrown away, and
        nothing of the batch may settle.
        """
        if not batch.sent:
            return True
        told, self._told = self._told, []
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
            told = [(tell, failures or {0: why}) for tell, failures in told]
        for tell, failures in told:
            tell(next(iter(failures.values()), None))
        if any(failure.fatal for failure in batch.failures.values()):
            self._replace()
        return not any(failure.purged for failure in batch.failures.values())

    def close(self, timeout: float) -> None:
        self._producer.close(timeout)

    def _replace(self) -> None:
        """A fatal producer sends nothing more; all it had not delivered is reported as failed and runs again."""
        old, self._producer = self._producer, self._connect(self._properties)
        old.close(0)
        log.warning("the Kafka producer failed for good and was replaced; unsettled events run again")


def _failed(failures: dict[int, SendFailure], index: int, error: Any, message: Any) -> None:
    """A delivery report for what the record at `index` caused."""
    if error is not None:
        failures.setdefault(index, failure_of(error, "" if message is None else message.topic()))


def _failed_both(
    failures: dict[int, SendFailure], own: dict[int, SendFailure], index: int, error: Any, message: Any
) -> None:
    _failed(failures, index, error, message)
    _failed(own, index, error, message)
