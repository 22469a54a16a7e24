"""A producer whose records and the offsets that go with them come into being together, or not at all: KIP-98, KIP-447.

Rules:
- One transaction at a time, and whoever begins one ends it: by `commit`, by `abort`, or by a new producer.
- Once `commit` was called, only its success or a successful `abort` says how the transaction ended. A fatal error of
  either leaves it open: the broker may have committed before its answer was lost (rdkafka_txnmgr.c, handle_EndTxn).
- A new producer of the same transactional id ends what the former one left, and fences it off.
- librdkafka 2.16 can forget a request for offsets while the group's coordinator moves (rdkafka_coord.c: a search for it
  that fails is only repeated when a connection comes or goes), and then its call never returns, whatever
  its timeout. So that call is made in a thread of its own, and its producer given up with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from orchestrator.errors import ForbiddenError
from orchestrator.kafka.checked import checked
from orchestrator.kafka.consumer import CommitRequest, Membership
from orchestrator.kafka.errors import reason_of
from orchestrator.kafka.producer import Producer, raised_by
from orchestrator.records import Permission

#: One wait for the coordinator lasts so long (seconds), then the caller is asked whether to go on.
_SLICE = 0.5
#: So many seconds after the end of a transaction's time nothing can come of it any more.
_GRACE = 2.0

#: The group went on without this member, or is about to: whoever owns the partitions now runs their events.
_OUTRUN = frozenset(
    {
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.UNKNOWN_MEMBER_ID,
    }
)
_FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
_FORBIDDEN = frozenset(
    {KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
)  # fmt: skip


class TransactionError(Exception):
    """A step of a transaction failed; nothing of it is visible, save where `commit` was called before (see above).

    `fatal`: the producer is finished; else the transaction has to be aborted. `fenced`: by another producer of the
    same id, or because the transaction took longer than its timeout. `outrun`: the group does not take offsets from
    this member now. `forbidden`: this client may not use the transactional id.
    """

    def __init__(self, error: KafkaError) -> None:
        code = error.code()
        self.code = error.name()
        self.message = reason_of(error)
        self.fatal = bool(error.fatal()) or code == KafkaError._FATAL or code in _FENCED
        self.fenced = code in _FENCED
        self.outrun = code in _OUTRUN
        self.forbidden = code in _FORBIDDEN
        super().__init__(f"{self.code}: {self.message}")


class WaitCancelled(Exception):
    """The caller did not want to wait any longer."""


class TransactionalProducer(Producer):
    """One librdkafka producer with a `transactional.id`. For one thread at a time.

    `go_on` is asked about twice a second while Kafka does not answer; when it says no, `WaitCancelled` is raised.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        """Raises UsageError for properties that librdkafka refuses."""
        settled = transactional(properties)
        super().__init__(settled)
        self._longest = int(settled["transaction.timeout.ms"]) / 1000 + _GRACE
        self._aside = Aside()
        self._id = str(properties["transactional.id"])

    def init(self, go_on: Callable[[], bool]) -> None:
        """End what a former producer of this id left open, and fence it off. Raises TransactionError and GaveUp.

        Raises ForbiddenError, too: without the permission to write under its id no transaction can begin.
        """
        try:
            self._insist(self._rd.init_transactions, go_on)
        except TransactionError as e:
            if e.forbidden:
                raise ForbiddenError([Permission("WRITE", "transactional id", self._id)]) from e
            raise

    def begin(self) -> None:
        """Raises TransactionError."""
        self._do(self._rd.begin_transaction)

    def deliver(self, go_on: Callable[[], bool], refused: Callable[[], bool]) -> None:
        """Until every record that was sent is acknowledged, or reported as failed. Raises TransactionError, GaveUp.

        Ends once one is `refused`: what waits behind it is not sent any more, and would time out before it is reported.
        """
        while self.flush(_SLICE):
            if self.fatal is not None or refused():
                break
            if not go_on():
                raise WaitCancelled
        if self.fatal is not None:
            self.abort(go_on)  # tells what the error was, where that got lost
            raise TransactionError(self.fatal)

    def send_offsets(self, requests: Sequence[CommitRequest], member: Membership, go_on: Callable[[], bool]) -> None:
        """Make the group's offsets a part of the transaction. Raises TransactionError and GaveUp; where no answer came,
        this producer is finished, and may be closed but not be used.

        The broker refuses them when `member` is of a former generation of its group.
        """
        offsets = [request.as_rd() for request in requests]
        ends = time.monotonic() + self._longest
        answer = self._aside.call(lambda: self._rd.send_offsets_to_transaction(offsets, member.group))
        while not answer.wait(_SLICE):
            if not go_on():
                raise WaitCancelled
            if time.monotonic() > ends:
                why = f"no answer about offsets within {self._longest:g} s"
                raise TransactionError(KafkaError(KafkaError._TIMED_OUT, why, fatal=True))
        if answer.error is not None:
            raise TransactionError(raised_by(answer.error)) from answer.error

    def close(self, timeout: float) -> int:
        self._aside.close()
        return super().close(timeout)

    def commit(self, go_on: Callable[[], bool]) -> None:
        """Raises TransactionError; after `WaitCancelled` nobody knows how it ended."""
        self._insist(self._rd.commit_transaction, go_on)

    def abort(self, go_on: Callable[[], bool]) -> None:
        """Throw away what the transaction holds, also what waits to be sent. Raises TransactionError."""
        self._insist(self._rd.abort_transaction, go_on)

    def _insist(self, step: Callable[[float], None], go_on: Callable[[], bool]) -> None:
        """Take a step that may be taken again while its answer is out."""
        while True:
            try:
                checked(step, _SLICE)
                return
            except (KafkaException, SystemError) as e:
                error = raised_by(e)
                if error.fatal() or error.txn_requires_abort() or not error.retriable():
                    raise TransactionError(error) from e
            if not go_on():
                raise WaitCancelled

    def _do(self, step: Callable[[], None]) -> None:
        try:
            checked(step)
        except (KafkaException, SystemError) as e:
            raise TransactionError(raised_by(e)) from e


class BackgroundResult(threading.Event):
    """Set when a call has returned; `error` is what it raised."""

    error: KafkaException | SystemError | None = None


class Aside:
    """A thread for calls that may never return, one at a time. It keeps no process alive."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], None], BackgroundResult] | None] = SimpleQueue()
        self._begun = False

    def call(self, step: Callable[[], None]) -> BackgroundResult:
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._run, name="offsets", daemon=True).start()
        answer = BackgroundResult()
        self._calls.put((step, answer))
        return answer

    def close(self) -> None:
        """No further call: the thread ends, once the one that is under way has returned."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            step, answer = call
            try:
                checked(step)
            except (KafkaException, SystemError) as e:
                answer.error = e
            answer.set()
            del call, step, answer  # what they hold on to may be the last of a producer that is closed


def transactional(properties: Mapping[str, Any]) -> dict[str, Any]:
    """`properties` of a producer (`transactional.id` among them) with what transactions want besides.

    A record is given up when the transaction has to be: then all of them are sent again, in order. Only failures are
    reported, so that a record that arrives costs nothing more.
    """
    timeout = str(properties.get("transaction.timeout.ms", TIMEOUT_MS))
    patience = str(properties.get("message.timeout.ms", "0"))
    return {
        **properties,
        "delivery.report.only.error": True,
        "message.timeout.ms": timeout if patience == "0" else patience,
        "transaction.timeout.ms": timeout,
    }


#: After so many milliseconds the coordinator aborts a transaction whose producer fell silent (Kafka: 60 s).
TIMEOUT_MS = 10_000
