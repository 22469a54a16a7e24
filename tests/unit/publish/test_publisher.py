"""Publisher's own rules, with a Kafka client that does what the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import Handler, KafkaSettings, Pipeline, Topic
from orchestrator.errors import BrokerError, ContractError, ForbiddenError, KpipeError
from orchestrator.kafka.producer import OnDelivery, SendFailure
from orchestrator.publish import publisher as service
from orchestrator.records import Outgoing

Answer = Callable[[OnDelivery], None]


class Client:
    """Stands in for `kafka.producer.Producer`: reports come from `poll`, as with the real one."""

    made: list[Client]
    answer: Answer
    #: What `poll` finds after the reports.
    fatal: Any = None
    ends: Any = None

    def __init__(self, properties: Mapping[str, Any], denser: Mapping[str, Any]) -> None:
        self.properties = properties
        self.waiting: list[OnDelivery] = []
        self.polled_by: set[str] = set()
        self.made.append(self)

    def send(self, record: Outgoing, on_delivery: OnDelivery, should_stop: Callable[[], bool]) -> None:
        self.waiting.append(on_delivery)

    def poll(self, timeout: float) -> None:
        self.polled_by.add(threading.current_thread().name)
        while self.waiting:
            Client.answer(self.waiting.pop())
            self.fatal = Client.ends
        time.sleep(0.001)

    def close(self, timeout: float) -> int:
        return len(self.waiting)


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    Client.made = []
    Client.answer = staticmethod(lambda report: report(None, 1, 7))  # type: ignore[assignment]
    monkeypatch.setattr("orchestrator.kafka.isolating_producer.IsolatingProducer", Client)
    monkeypatch.setattr(Client, "ends", None)


def pipeline(**limits: str) -> Pipeline:
    topics = {
        name: Topic(name, name, 1, 1, {"max.message.bytes": limit} if limit else {})
        for name, limit in {"events": "", **limits}.items()
    }
    handlers = {"api": Handler("api", "service", "true", "p.api", produces=("events",))}
    return Pipeline("p", "", Path(), KafkaSettings(producer={"message.timeout.ms": "9"}), topics, {}, handlers)


@pytest.fixture
def publisher() -> Iterator[service.Publisher]:
    with service.Publisher(2.5, pipeline=pipeline(big="5000000"), bootstrap="localhost:1", environ={}) as publisher:
        yield publisher


def failing(code: str, **flags: bool) -> Answer:
    return staticmethod(lambda report: report(SendFailure(code, "it said", **flags), -1, -1))  # type: ignore[return-value]


def test_reports_are_served_by_a_thread_of_its_own(publisher: service.Publisher) -> None:
    assert publisher.publish("events", {}) == ("events", 1, 7)
    assert Client.made[0].polled_by == {"kpipe-publisher"}


def test_the_deadline_is_the_clients_too_so_that_nothing_is_sent_after_it(publisher: service.Publisher) -> None:
    assert Client.made[0].properties["message.timeout.ms"] == "2500"
    assert Client.made[0].properties["acks"] == "all"


@pytest.mark.parametrize(("handler", "batch"), [(None, "99744"), ("api", "1000000")])
def test_batches_fit_into_the_smallest_topic_and_single_records_are_kafkas_to_judge(
    handler: str | None, batch: str
) -> None:
    pipe = pipeline(small="100000")
    with service.Publisher(pipeline=pipe, bootstrap="localhost:1", handler=handler, environ={}):
        assert Client.made[0].properties["batch.size"] == batch
        assert Client.made[0].properties["message.max.bytes"] == "1000000000"


def test_what_waits_for_kafka_is_bounded_but_one_event_of_any_size_may(publisher: service.Publisher) -> None:
    Client.answer = staticmethod(lambda report: None)  # type: ignore[assignment]
    big = "x" * 70_000_000
    asked: list[BaseException] = []

    def ask() -> None:
        try:
            publisher.publish("events", {"text": big})
        except KpipeError as problem:
            asked.append(problem)

    threading.Thread(target=ask, daemon=True).start()
    deadline = time.monotonic() + 10
    while not publisher._producer.open and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(BrokerError, match="too many events"):
        publisher.publish("events", {"text": "one more"})
    assert not asked, "the first one is still on its way"


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (failing("_MSG_TIMED_OUT"), BrokerError, "within 2.5 s"),
        (failing("_PURGE_QUEUE", purged=True), BrokerError, "too many events"),
        (failing("TOPIC_AUTHORIZATION_FAILED"), BrokerError, "it said"),
        (failing("INVALID_RECORD", permanent=True), ContractError, "it said"),
        (failing("MSG_SIZE_TOO_LARGE", permanent=True, too_large=True), service.TooLargeError, "it said"),
    ],
)
def test_what_a_failure_is_to_the_caller(
    publisher: service.Publisher, answer: Answer, kind: type[KpipeError], said: str
) -> None:
    Client.answer = answer  # type: ignore[assignment]
    with pytest.raises(kind, match=said):
        publisher.publish("events", {})


def test_a_producer_that_librdkafka_gave_up_is_replaced(publisher: service.Publisher) -> None:
    works, Client.answer = Client.answer, failing("_FATAL", fatal=True)  # type: ignore[method-assign]
    with pytest.raises(BrokerError):
        publisher.publish("events", {})
    Client.answer = works  # type: ignore[method-assign]
    assert publisher.publish("events", {}).offset == 7
    assert len(Client.made) == 2


@pytest.mark.parametrize("answer", [failing("_PURGE_QUEUE", purged=True), staticmethod(lambda report: None)])
def test_what_a_producer_threw_away_when_it_ended_is_told_why(publisher: service.Publisher, answer: Answer) -> None:
    works, Client.answer = Client.answer, answer  # type: ignore[method-assign]
    Client.ends = SendFailure("CLUSTER_AUTHORIZATION_FAILED", "no producer id", fatal=True)
    with pytest.raises(BrokerError, match="no producer id"):
        publisher.publish("events", {})
    Client.answer, Client.ends = works, None  # type: ignore[method-assign]
    assert publisher.publish("events", {}).offset == 7


def test_a_service_that_may_not_write_is_told_the_permission(publisher: service.Publisher) -> None:
    Client.answer = failing("TOPIC_AUTHORIZATION_FAILED", forbidden=True)  # type: ignore[assignment]
    with pytest.raises(ForbiddenError, match="WRITE on the topic events"):
        publisher.publish("events", {})


def test_a_client_that_never_reports_does_not_hold_the_caller(
    monkeypatch: pytest.MonkeyPatch, publisher: service.Publisher
) -> None:
    monkeypatch.setattr(service, "_GRACE", -2.4)
    Client.answer = staticmethod(lambda report: None)  # type: ignore[assignment]
    with pytest.raises(BrokerError, match="did not report"):
        publisher.publish("events", {})
