"""One AdminClient and how its futures are waited for: what every question and every write to the cluster shares."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.errors import BrokerError
from orchestrator.kafka.errors import NOT_TRUSTED, UNREACHABLE, cannot_use, reason_of, wrong_property
from orchestrator.records import Refusal

K = TypeVar("K")
Results = dict[str, Refusal | None]

#: Seconds for a request that changes something: the controller may have to write thousands of records first.
WRITE_TIMEOUT = 30.0
_TICK = 0.1


class Asking:
    """One AdminClient. `timeout` is how long a question may take, in seconds: after it the cluster is unreachable."""

    def __init__(self, properties: Mapping[str, Any], *, timeout: float = 6.0) -> None:
        """`properties` come from `client_properties(settings, "admin", …)`. Raises UsageError for a wrong one."""
        self._timeout = timeout
        self._properties = properties
        self._last_error: KafkaError | None = None
        self._connect()

    def _connect(self) -> None:
        try:
            self._client = AdminClient({**self._properties, "error_cb": self._remember})
        except (KafkaException, TypeError, ValueError) as problem:
            raise wrong_property(problem, self._properties) from problem

    def _results(self, futures: Mapping[str, Future[Any]]) -> Results:
        return {
            name: Refusal(answer.name(), reason_of(answer)) if isinstance(answer, KafkaError) else None
            for name, answer in self._all(futures).items()
        }

    def _all(self, futures: Mapping[K, Future[Any]]) -> dict[K, Any]:
        """What each future brings: a value, or the KafkaError that the broker gave for this item.

        Raises BrokerError when any of them never reached the cluster. The client lives in `self` until then:
        librdkafka drops what is under way when its handle goes.
        """
        # One after the other: waiting for thousands at once costs more than what they bring.
        for future in futures.values():
            while not future.done():
                wait([future], timeout=_TICK)
                self._client.poll(0)  # librdkafka's errors and its log are delivered here
                if self._last_error is not None and self._last_error.code() in NOT_TRUSTED and not future.done():
                    raise cannot_use(self._properties, self._last_error)
        self._client.poll(0)
        answers = {key: _answer(future) for key, future in futures.items()}
        for answer in answers.values():
            if isinstance(answer, KafkaError) and answer.code() in UNREACHABLE | NOT_TRUSTED:
                raise self._unreachable(answer)
        self._last_error = None
        return answers

    def _unreachable(self, error: KafkaError) -> BrokerError:
        """The reason behind a request that timed out is what the connections said meanwhile, if anything."""
        return cannot_use(self._properties, self._last_error or error)

    def _remember(self, error: KafkaError) -> None:
        # "All brokers down" follows the reason why, and would hide it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error


def _answer(future: Future[Any]) -> Any:
    problem = future.exception()
    if problem is None:
        return future.result()
    if isinstance(problem, KafkaException):
        return problem.args[0]
    raise problem
