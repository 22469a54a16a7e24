"""Sending what events caused, and the barrier behind which they are settled. DESIGN section 5, step 10."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.kafka.producer import (
    LARGEST_REQUEST,
    NOT_QUEUED,
    ONLY_FAILURES,
    OnReport,
    PostHeaders,
    Producer,
    SendFailure,
    failure_of,
    outgoing_of,
)
from orchestrator.records import Outgoing
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.produce.batch import Batch, Told

log = logging.getLogger("kpipe.worker")

#: Receipts that are out for so long are an alarm, repeated as often (seconds).
ALARM_SECONDS = 10.0


class SettlementPlan(NamedTuple):
    """What settles at a barrier as far as is known: all of the batch but these indices, and where that leads."""

    left_out: Container[int]
    checkpoint: Checkpoint


#: Topic, key, value, headers, and the index in the batch of the record that caused it.
Post = Callable[[str, str | None, bytes, PostHeaders, int], None]


class Waiting(NamedTuple):
    """A batch whose events have run, and its plan: asked again whenever something more has failed."""

    batch: Batch
    plan: Callable[[], SettlementPlan]


class Barrier(Protocol):
    """How what events caused is sent, and what has to be true before they settle.

    Whatever was sent since the last barrier belongs to the batches that wait at the next one.
    """

    def open(self, stopping: Callable[[], bool]) -> None:
        """Called once, by the thread that runs handlers, before anything else."""
        ...

    def send(self, out: Outgoing, batch: Batch, told: Told | None = None) -> None:
        """`out` is caused by the record that `batch` added last. `told` hears whether it was written."""
        ...

    def poster(self, batch: Batch, most: int) -> Post:
        """`send` for plain records that the next `most` events of `batch` cause, without what makes it slow."""
        ...

    def wait(self, waiting: Sequence[Waiting], stopping: Callable[[], bool]) -> Iterable[bool]:
        """For each in turn, once that is known, whether what its plan tells may settle; else nothing of it may.

        The plan and `batch.failures` then tell what failed. Whoever asks settles one before asking for the next.
        """
        ...

    def tidy(self, stopping: Callable[[], bool]) -> None:
        """Called between batches."""
        ...

    def squeeze(self) -> bool:
        """Called between batches, when a record alone was too large: compress better from now on; False when this is
        the best already.
        """
        ...


class ProducerBarrier:
    """The worker's producer and its receipts. Nobody else shares the producer, and every batch waits at the barrier.

    What was written is not reported, one record at a time; that all of a batch was, the barrier proves: `flush`
    returned 0 and no failure was reported. One flush costs as much for one batch as for those of all partitions.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        facts: WorkerEvents,
        connect: Callable[[Mapping[str, Any]], Producer] = Producer,
        denser: Mapping[str, Any] = {},
    ) -> None:
        """`connect` makes a producer of these properties; `denser` are those that make its batches smaller."""
        self._properties = {**properties, **ONLY_FAILURES}
        self._denser = denser
        self._facts = facts
        self._connect = connect
        self._producer = connect(self._properties)
        #: Of batches that have not passed the barrier, and those that are free.
        self._lent: dict[Batch, Reports] = {}
        self._spare: list[Reports] = []
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

    def poster(self, batch: Batch, most: int) -> Post:
        """See `Barrier`: no object is made here for each of them."""
        produce, part = self._producer.produce, batch.part
        lent = self._lent.get(batch)
        if lent is None:
            lent = self._lent[batch] = self._spare.pop() if self._spare else Reports()
        reports = lent.of(batch, len(batch.records) + most)

        def post(topic: str, key: str | None, value: bytes, headers: PostHeaders, index: int) -> None:
            if part.ended:
                return
            batch.sent += 1
            if len(value) <= LARGEST_REQUEST:
                try:
                    produce(topic, value, key, -1, reports[index], None, 0, headers)
                    return
                except NOT_QUEUED:
                    pass
            self._producer.post(outgoing_of(topic, key, value, headers), reports[index], batch.stalled)

        return post

    def wait(self, waiting: Sequence[Waiting], stopping: Callable[[], bool]) -> list[bool]:
        """Until each record that the batches sent is acknowledged or reported as failed.

        False for a batch whose epoch ended first, and for all when the worker has to stop: what is still queued is
        thrown away, and nothing of it may settle. What was queued for another batch goes with it, and runs again.
        """
        batches = [one.batch for one in waiting if one.batch.sent]
        lent, self._lent = self._lent, {}
        if not batches:
            self._spare += lent.values()
            return [True] * len(waiting)
        told, self._told = self._told, []
        if not self._delivered(batches, stopping):
            return [not one.batch.sent for one in waiting]
        if self._producer.fatal is not None:
            # Which reports are missing is not known: all that was sent runs again.
            why = failure_of(self._producer.fatal)._replace(fatal=True, permanent=False)
            for batch in batches:
                batch.failures.update(dict.fromkeys(range(len(batch.records)), why))
            told = [(tell, failures or {0: why}) for tell, failures in told]
        else:
            self._spare += lent.values()  # where reports are still to come, they are not about another batch
        for tell, failures in told:
            tell(next(iter(failures.values()), None))
        failed = [failure for batch in batches for failure in batch.failures.values()]
        if any(failure.fatal for failure in failed):
            self._replace()
        return [not (one.batch.over and _purged(one.batch)) for one in waiting]

    def _delivered(self, batches: Sequence[Batch], stopping: Callable[[], bool]) -> bool:
        """Wait until all is reported, or the producer finished; False when nobody is left who needs that."""
        alarm = time.monotonic() + ALARM_SECONDS
        over = 0
        while self._producer.flush(0.1) and self._producer.fatal is None:
            ended = sum(batch.over for batch in batches)
            if ended > over or stopping():
                over = ended
                self._producer.purge()
                if over == len(batches) or stopping():
                    return False
            if time.monotonic() > alarm:
                alarm = time.monotonic() + ALARM_SECONDS
                self._facts.alarm("Kafka has not acknowledged what was sent; waiting")
        return True

    def squeeze(self) -> bool:
        denser, self._denser = self._denser, {}
        if denser:
            self._properties.update(denser)
            self._exchange()
        return bool(denser)

    def close(self, timeout: float) -> None:
        self._producer.close(timeout)

    def _exchange(self) -> None:
        old, self._producer = self._producer, self._connect(self._properties)
        old.close(0)

    def _replace(self) -> None:
        """A fatal producer sends nothing more; all it had not delivered is reported as failed and runs again."""
        self._exchange()
        log.warning("the Kafka producer failed for good and was replaced; unsettled events run again")


class Reports:
    """What librdkafka calls about the records of one batch, for each index; made once, and lent to many batches."""

    def __init__(self) -> None:
        self._failures: dict[int, SendFailure] = {}
        self._of: list[OnReport] = []

    def of(self, batch: Batch, most: int) -> Sequence[OnReport]:
        """For so many records of `batch`; whatever batch had it before, all of it was reported."""
        self._failures = batch.failures
        self._of.extend(partial(self._failed, index) for index in range(len(self._of), most))
        return self._of

    def _failed(self, index: int, error: Any, message: Any) -> None:
        _failed(self._failures, index, error, message)


def _purged(batch: Batch) -> bool:
    return any(failure.purged for failure in batch.failures.values())


def _failed(failures: dict[int, SendFailure], index: int, error: Any, message: Any) -> None:
    """A delivery report for what the record at `index` caused."""
    if error is not None:
        failures.setdefault(index, failure_of(error, "" if message is None else message.topic()))


def _failed_both(
    failures: dict[int, SendFailure], own: dict[int, SendFailure], index: int, error: Any, message: Any
) -> None:
    _failed(failures, index, error, message)
    _failed(own, index, error, message)
