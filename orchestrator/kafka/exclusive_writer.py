"""Writing records in transactions: all of a batch or none of it, and one writer of a name at a time (KIP-98).

`start` ends what an earlier writer of the name left open and shuts out one that still runs; what it wrote is then
either committed or will never be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as RdProducer

from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import REFUSED, cannot_use, on_topics, wrong_property
from orchestrator.kafka.header_names import writing
from orchestrator.kafka.interrupt import uninterrupted
from orchestrator.kafka.producer import TOO_LARGE
from orchestrator.records import Outgoing, Permission

#: Seconds of one call into librdkafka, so that Ctrl-C is heard, and until Kafka has to have answered.
_CALL = 1.0
_PATIENCE = 30.0
_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
    }
)


class ExclusiveWriter:
    """One writer of the name `transactional_id`. Every method raises BrokerError when Kafka refuses or is silent."""

    def __init__(self, properties: Mapping[str, Any], transactional_id: str) -> None:
        """`properties` come from `client_properties(settings, "producer", …)`. Nothing is asked yet."""
        self._properties = properties
        self._id = transactional_id
        #: Where the open transaction writes to.
        self._topics: set[str] = set()
        own = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": "30000",
            # librdkafka takes no message that may live longer than its transaction.
            "message.timeout.ms": str(int(_PATIENCE * 1000)),
        }
        self._refused: KafkaError | None = None
        self._last_error: KafkaError | None = None
        self._open = False
        try:
            self._rd = RdProducer({**properties, **own, "error_cb": self._remember})
        except (KafkaException, TypeError, ValueError) as problem:
            raise wrong_property(problem, properties) from problem

    def start(self) -> None:
        """Become the one writer of the name."""
        self._ask(lambda: self._rd.init_transactions(_CALL))

    def send(self, out: Outgoing) -> None:
        """Add a record to the open transaction; one is opened at need."""
        if not self._open:
            self._ask(self._rd.begin_transaction)
            self._open = True
            self._topics.clear()
        self._topics.add(out.topic)
        more: dict[str, Any] = {"headers": list(out.headers), "on_delivery": self._delivered}
        if out.partition is not None:
            more["partition"] = out.partition
        produce = writing(self._rd.produce, out.headers)
        while True:
            try:
                with uninterrupted():
                    checked(produce, out.topic, out.value, out.key, **more)
                    checked(self._rd.poll, 0)
                return
            except BufferError:
                with uninterrupted():
                    self._rd.poll(0.1)
                self._check()
            except KafkaException as problem:
                raise self._trouble(problem.args[0]) from problem

    def commit(self) -> None:
        """Commit the open transaction, if there is one."""
        if not self._open:
            return
        self._ask(lambda: self._rd.commit_transaction(_CALL))
        self._check()
        self._open = False

    def abort(self) -> None:
        """Undo the open transaction as far as Kafka answers: one that stays open is undone by the next `start`."""
        if self._open:
            self._open = False
            try:
                with uninterrupted():
                    self._rd.purge()
                    checked(self._rd.abort_transaction, _PATIENCE / 10)
            except KafkaException:
                return

    def _ask(self, question: Callable[[], Any]) -> None:
        """Repeat what may be repeated, in short calls: librdkafka goes on with the same transaction state."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                with uninterrupted():
                    checked(question)
                return
            except KafkaException as problem:
                error: KafkaError = problem.args[0]
                if not error.retriable() or time.monotonic() > deadline:
                    raise self._trouble(error) from problem

    def _check(self) -> None:
        if self._refused is not None:
            raise self._trouble(self._refused)

    def _trouble(self, error: KafkaError) -> BrokerError:
        error = self._cause(error)
        if error.code() in _FENCED:
            return BrokerError("another one of the same pipeline has begun meanwhile", "let it end, then start again")
        refused = self._refused or error
        if refused.code() in (KafkaError._TIMED_OUT, KafkaError._MSG_TIMED_OUT):
            refused = self._last_error or refused
        if refused.code() in REFUSED:
            return ForbiddenError(self._missing(refused))
        if refused.code() in TOO_LARGE:
            return BrokerError(
                f"a record is too large for {' or '.join(sorted(self._topics))}",
                "raise the topic's max.message.bytes, or leave the record out with --where",
            )
        return cannot_use(self._properties, refused)

    def _missing(self, error: KafkaError) -> list[Permission]:
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return on_topics("WRITE", sorted(self._topics))
        return [Permission("WRITE", "transactional id", self._id)]

    def _cause(self, error: KafkaError) -> KafkaError:
        """What is behind "fatal error": librdkafka says it once, where it serves its callbacks."""
        if error.code() != KafkaError._FATAL:
            return error
        try:
            with uninterrupted():
                checked(self._rd.poll, 0)
        except KafkaException as problem:
            return cast("KafkaError", problem.args[0])
        return self._last_error or error

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._refused = self._refused or error

    def _remember(self, error: KafkaError) -> None:
        # "All brokers down" follows the reason why, and would hide it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error
