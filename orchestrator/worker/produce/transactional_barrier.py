"""`guarantee: exactly-once`: what events caused and the offsets that cover them come into being together.

Rules (DESIGN section 5, step 14):
- A transaction is short: it begins at the barrier, when the handlers have run, and holds the outputs and dead letters
  of the batches that wait there, and one offset with its checkpoint for each. Neither a slow handler nor a parked lane
  is ever inside of one.
- What was aborted is sent again, a transaction for each batch; no handler runs a second time for it. The event of a
  record that Kafka refuses for good goes back to the loop, which runs it alone; after a second abort that blames
  nobody, all events of the batch do.
- Settled means committed: the frontier moves, ids are taken and events counted only afterwards.
- Who commits what: the thread that runs handlers, with each batch, and once a second, in a transaction without records,
  what settled without sending any. The thread that polls, in such a transaction, the last of a partition whose epoch
  it has closed, and what is asked for before an event runs in quarantine. The consumer by itself only where an
  epoch starts, before any of its events run. Two commits of one partition never overlap (`Partition.committing`):
  Kafka keeps whichever came last.
- The broker refuses offsets of a former generation, and who we are in the group is asked before it is looked up whether
  the epoch still runs: so a worker that lost a partition cannot commit for it, however late it finds out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.errors import BrokerError
from orchestrator.kafka.consumer import CommitRequest, Membership
from orchestrator.kafka.producer import Parts, PostHeaders, SendFailure, failure_of
from orchestrator.kafka.transactional_producer import TransactionalProducer, TransactionError, WaitCancelled
from orchestrator.records import Outgoing, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.produce.barrier import ALARM_SECONDS, Post, Waiting
from orchestrator.worker.produce.batch import Batch, Told
from orchestrator.worker.produce.transactor import GoOn, RecordRefused, Transactor

#: What settled without sending anything is committed so often (seconds).
COMMIT_SECONDS = 1.0
#: How long the last commit of a partition may take (seconds).
LAST_SECONDS = 5.0
#: Between an abort and the next try (seconds), doubling.
AGAIN_SECONDS, MOST_AGAIN_SECONDS = 0.05, 1.0
#: So many aborts that blame nobody, and each event of the batch gets a transaction of its own.
ABORTS = 2
#: What aborts a transaction because a broker was away, whatever was in it.
_AWAY = frozenset(
    {
        "_MSG_TIMED_OUT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_OUTDATED",
        "REQUEST_TIMED_OUT", "NETWORK_EXCEPTION", "BROKER_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID", "KAFKA_STORAGE_ERROR",
        "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "CONCURRENT_TRANSACTIONS",
    }
)  # fmt: skip

Sent = tuple[int, Outgoing | Parts, Told | None]


class Share(NamedTuple):
    """What one batch has in a transaction; `refused`, by index, are those whose records Kafka did not take."""

    batch: Batch
    outs: list[Sent]
    checkpoint: Checkpoint
    refused: dict[int, SendFailure]


class TransactionalBarrier:
    """Sends what events caused, a transaction at each barrier. Used like `ProducerBarrier`."""

    def __init__(
        self,
        connect: Callable[[], TransactionalProducer],
        member: Callable[[], Membership | None],
        ledger: Assignments,
        facts: WorkerEvents,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        last_seconds: float = LAST_SECONDS,
        denser: Callable[[], TransactionalProducer] | None = None,
    ) -> None:
        """`connect` makes a producer, `denser` one whose batches are smaller, if there is such.

        `member` tells who the consumer is in its group now, None when it has left.
        """
        self._last_seconds = last_seconds
        self._transactor = Transactor(connect, clock)
        self._denser = denser
        self._member = member
        self._ledger = ledger
        self._facts = facts
        self._clock = clock
        self._sleep = sleep
        self._due = 0.0

    # -- the thread that runs handlers ----------------------------------------------------------------------------

    def open(self, stopping: Callable[[], bool]) -> None:
        """End what a former life left open, before its offsets are asked for. Raises BrokerError."""
        try:
            self._transactor.open(self._patience(stopping))
        except WaitCancelled:
            return

    def send(self, out: Outgoing, batch: Batch, told: Told | None = None) -> None:
        """Keep `out`, on behalf of the record that `batch` added last, until the barrier."""
        batch.sent += 1
        batch.outs.append((len(batch.records) - 1, out, told))

    def poster(self, batch: Batch, most: int) -> Post:
        """`send`, as records come without an `Outgoing`."""

        def post(topic: str, key: str | None, value: bytes, headers: PostHeaders, index: int) -> None:
            batch.sent += 1
            batch.outs.append((index, (topic, key, value, headers), None))

        return post

    def wait(self, waiting: Sequence[Waiting], stopping: Callable[[], bool]) -> Iterator[bool]:
        """Commit what settles by the plans together with all it caused; `batch.failures` says what cannot be.

        False for a batch whose epoch ended, and for all when the worker stops: then nothing of it may settle. The
        answer for one is given before the next batch is tried by itself: what was committed has to settle, so that
        the thread that polls does not wait for it. Raises BrokerError.
        """
        go_on = self._patience(stopping)
        together, aborts = self._commit_together(waiting, go_on)
        for one in waiting:
            yield one.batch in together or self._commit_alone(one, aborts, stopping, go_on)

    def _commit_together(self, waiting: Sequence[Waiting], go_on: GoOn) -> tuple[set[Batch], int]:
        """All that was sent in one transaction: what was committed with it, or else the aborts that count."""
        shares = [share for one in waiting if (share := _share(one)) is not None]
        if len(shares) < 2:
            return set(), 0
        try:
            entered, failed = self._commit(shares, go_on)
        except WaitCancelled:
            return set(), 0
        if failed is None:
            return {share.batch for share in entered}, 0
        guilty = [share for share in entered if _blame(share)]
        if guilty:
            return set(), 0
        self._tell_aborted(failed, entered)
        return set(), _counts(failed, entered)

    def _commit_alone(self, one: Waiting, aborts: int, stopping: Callable[[], bool], go_on: GoOn) -> bool:
        """Until the batch's own transaction is committed; False when that cannot be any more."""
        batch, pause = one.batch, AGAIN_SECONDS
        if not batch.sent:
            return True
        while not (batch.over or stopping()):
            share = _share(one)
            if share is None:
                return True
            try:
                _, failed = self._commit([share], go_on)
            except WaitCancelled:
                return False
            if failed is None:
                return True
            if not _blame(share):
                self._tell_aborted(failed, [share])
                aborts += _counts(failed, [share])
                if aborts >= ABORTS:
                    _suspect_all(batch, failed)
                    return True
            self._sleep(pause)
            pause = min(2 * pause, MOST_AGAIN_SECONDS)
        return False

    def tidy(self, stopping: Callable[[], bool]) -> None:
        """Commit what settled without sending anything, once a second. Raises BrokerError."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + COMMIT_SECONDS
        self._commit_changed(self._patience(stopping))

    def squeeze(self) -> bool:
        denser, self._denser = self._denser, None
        if denser is not None:
            self._transactor.use(denser)
        return denser is not None

    # -- the thread that polls ------------------------------------------------------------------------------------

    def commit_now(self) -> bool:
        """Commit all that changed; False when that has to be tried again. Raises BrokerError."""
        deadline = self._clock() + self._last_seconds
        return self._commit_changed(lambda: self._clock() < deadline, self._last_seconds)

    def commit(self, ended: Mapping[TopicPartition, Checkpoint]) -> None:
        """Commit the last of partitions whose epochs are closed. Raises BrokerError when that cannot be."""
        if not ended:
            return
        member = self._member()
        deadline = self._clock() + self._last_seconds
        if member is None:
            raise BrokerError("the commit was refused: this worker has left its group")
        try:

            def in_time() -> bool:
                return self._clock() < deadline

            fill = partial(_offsets_only, _requests(ended), member, in_time)
            failed = self._transactor.run(fill, in_time, self._last_seconds)
        except WaitCancelled as e:
            raise BrokerError(f"the commit was not acknowledged within {self._last_seconds:g} s") from e
        if failed is not None:
            raise BrokerError(f"the commit was refused: {failed}")

    def close(self, timeout: float) -> None:
        self._transactor.close(timeout)

    # -- both -----------------------------------------------------------------------------------------------------

    def _commit_changed(self, go_on: GoOn, patience: float = -1.0) -> bool:
        """What changed without being committed, in a transaction of offsets only; whether all of it is committed."""
        member = self._member()
        if member is None:
            return False
        changed, complete = self._ledger.enter_changed()
        if not changed:
            return complete
        ok = False
        try:
            requests = _requests({part.tp: checkpoint for part, checkpoint in changed.items()})
            ok = self._transactor.run(partial(_offsets_only, requests, member, go_on), go_on, patience) is None
        except WaitCancelled:
            return False
        finally:
            self._ledger.leave_changed(changed, ok=ok)
        return ok and complete

    def _commit(
        self, shares: Sequence[Share], go_on: GoOn
    ) -> tuple[Sequence[Share], TransactionError | RecordRefused | None]:
        """One transaction of all `shares` but those whose epoch is over; which ones they were, and why it failed."""
        # In this order: an epoch that still runs afterwards was not over when the group was asked.
        member = self._member()
        entered = [] if member is None else [share for share in shares if self._ledger.enter(share.batch.part)]
        if member is None or not entered:
            raise WaitCancelled
        requests = _requests({share.batch.part.tp: share.checkpoint for share in entered})

        def fill(producer: TransactionalProducer) -> None:
            def give_up() -> bool:
                return not go_on()

            def refused() -> bool:
                return any(share.refused for share in entered)

            for share in entered:
                for index, out, _ in share.outs:
                    post: Any = producer.post if type(out) is Outgoing else producer.post_parts
                    post(out, partial(_note, share.refused, index), give_up)
            if not go_on():
                raise WaitCancelled  # an output may have been dropped for want of room
            producer.deliver(go_on, refused)
            if refused():
                raise RecordRefused
            producer.send_offsets(requests, member, go_on)

        failed = self._transactor.run(fill, go_on)
        for share in entered:
            if failed is None:
                self._ledger.committed(share.batch.part, share.checkpoint)
                _tell(share.outs)
            else:
                self._ledger.leave(share.batch.part)
        return entered, failed

    def _tell_aborted(self, failed: TransactionError | RecordRefused, shares: Sequence[Share]) -> None:
        why = next((f"{one.code}: {one.message}" for share in shares for one in share.refused.values()), str(failed))
        self._facts.trouble(f"a transaction was aborted and is sent again: {why}")

    def _patience(self, stopping: Callable[[], bool]) -> GoOn:
        """Go on until the worker stops; an alarm while Kafka does not answer."""
        alarm = self._clock() + ALARM_SECONDS

        def go_on() -> bool:
            nonlocal alarm
            if self._clock() > alarm:
                alarm = self._clock() + ALARM_SECONDS
                self._facts.alarm("Kafka does not answer about a transaction; waiting")
            return not stopping()

        return go_on


def _tell(outs: Iterable[Sent]) -> None:
    for _, _, told in outs:
        if told is not None:
            told(None)


def _counts(failed: TransactionError | RecordRefused, shares: Iterable[Share]) -> int:
    """Whether the abort may be an event's doing: not where the group moved on, the producer was finished, or a broker
    was away. To run each event alone would not help then, and take long."""
    if isinstance(failed, TransactionError):
        return int(not (failed.outrun or failed.fatal or failed.code in _AWAY))
    refusals = {refused.code for share in shares for refused in share.refused.values()}
    return int(not refusals or not refusals <= _AWAY)


def _note(refused: dict[int, SendFailure], index: int, error: Any, message: Any) -> None:
    """A delivery report. What was thrown away because another record had failed is to blame for nothing."""
    if error is not None:
        failure = failure_of(error, "" if message is None else message.topic())
        if not failure.purged:
            refused.setdefault(index, failure)


def _share(one: Waiting) -> Share | None:
    """What the batch has to commit; None when nothing that it sent is left."""
    batch = one.batch
    if not batch.sent:
        return None
    left_out, checkpoint = one.plan()
    outs = [sent for sent in batch.outs if sent[0] not in left_out] if left_out else batch.outs
    return Share(batch, outs, checkpoint, {}) if outs else None


def _blame(share: Share) -> bool:
    """Note the events whose records can never be written; whether there are any."""
    guilty = {index: failure for index, failure in share.refused.items() if failure.permanent}
    share.batch.failures.update(guilty)
    return bool(guilty)


def _suspect_all(batch: Batch, failed: TransactionError | RecordRefused) -> None:
    """Every event of the batch runs again, alone."""
    why = SendFailure("ABORTED", f"its transaction was aborted: {failed}", suspect=True)
    for index in range(len(batch.records)):
        batch.failures.setdefault(index, why)


def _offsets_only(
    requests: list[CommitRequest], member: Membership, go_on: GoOn, producer: TransactionalProducer
) -> None:
    producer.send_offsets(requests, member, go_on)


def _requests(checkpoints: Mapping[TopicPartition, Checkpoint]) -> list[CommitRequest]:
    return [CommitRequest(tp, c.offset, c.metadata(), c.epoch) for tp, c in checkpoints.items()]
