"""The ids of topics (KIP-516), which tell a topic from a later one of the same name; asked with or without waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from orchestrator.kafka.admin.admin_client import Asking

#: So long after a question met an error none is asked (seconds).
AGAIN_SECONDS = 3.0


class TopicIdentity(NamedTuple):
    """A topic's id as Kafka's tools print it ("" from brokers before Kafka 2.8), and how many partitions it has."""

    topic_id: str
    partitions: int


class TopicIds(Asking):
    """Questions about topic ids, one at a time. For one thread.

    An AdminClient whose broker dies repeats an open question without a pause (librdkafka 2.16), which takes a whole
    core until the question times out. So a question that meets an error is given up together with its client.
    """

    def __init__(self, properties: Mapping[str, Any], *, timeout: float = 6.0) -> None:
        super().__init__(properties, timeout=timeout)
        self._futures: dict[str, Future[Any]] = {}
        #: Not before this time (monotonic seconds) a question is asked again after one that was given up.
        self._again = 0.0

    def of(self, names: Sequence[str]) -> dict[str, TopicIdentity]:
        """The topics among `names` that exist and may be seen. Raises BrokerError when the cluster does not answer."""
        if not names:
            return {}
        return _identities(self._all(self._describe(names)))

    def ask(self, names: Sequence[str]) -> None:
        """Ask without waiting; `answer` has it later. A question that is still open is given up."""
        self._last_error = None
        self._futures = self._describe(names) if names and time.monotonic() >= self._again else {}

    def answer(self) -> dict[str, TopicIdentity] | None:
        """The answer to `ask`, None while it is out. Nothing of a topic that could not be asked for is in it."""
        if self._futures and not all(future.done() for future in self._futures.values()):
            self._client.poll(0)
            if self._last_error is None:
                return None
            self._futures, self._again = {}, time.monotonic() + AGAIN_SECONDS
            self._connect()
        futures, self._futures = self._futures, {}
        return _identities({name: _result(future) for name, future in futures.items()})

    def _describe(self, names: Sequence[str]) -> dict[str, Future[Any]]:
        futures: dict[str, Future[Any]] = self._client.describe_topics(
            TopicCollection(list(names)), request_timeout=self._timeout
        )
        return futures


def topic_id_text(topic_id: Any) -> str:
    """Base64 as Kafka's tools print it; brokers without ids answer with zeros."""
    text = "" if topic_id is None else str(topic_id)
    return "" if text.strip("A") == "" else text


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except KafkaException as problem:
        return problem.args[0]


def _identities(answers: Mapping[str, Any]) -> dict[str, TopicIdentity]:
    return {
        name: TopicIdentity(topic_id_text(topic.topic_id), len(topic.partitions))
        for name, topic in answers.items()
        if not isinstance(topic, KafkaError)
    }
