"""Publisher against a real Apache Kafka: acknowledged means written, refused means not written."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from orchestrator import Publisher
from orchestrator.errors import BrokerError, ContractError, FindingsError, UsageError
from orchestrator.kafka.header_names import headers_of

pytestmark = pytest.mark.kafka


class Project:
    """A folder with a pipeline file whose topics exist on Kafka under a namespace of their own."""

    def __init__(self, base: Path, bootstrap: str) -> None:
        self.base = base
        self.bootstrap = bootstrap
        self.namespace = f"pub-{uuid.uuid4().hex[:8]}"
        schema = {"required": ["id"], "properties": {"amount": {"type": "number"}}}
        (base / "event.json").write_text(json.dumps(schema))
        self.file = base / "pipeline.yaml"
        self.file.write_text(
            f"""
kpipe: 1
pipeline: publishing
namespace: {self.namespace}
topics:
  events: {{schema: event.json, key: id, dlq: events.dlq}}
  small: {{key: id, dlq: events.dlq, configs: {{max.message.bytes: 10KB}}}}
  others: {{}}
handlers:
  api: {{service: "true", port: 1, produces: [events, small]}}
"""
        )
        admin = AdminClient({"bootstrap.servers": bootstrap})
        small = {"max.message.bytes": "10000"}
        topics = [NewTopic(f"{self.namespace}.events", 3, 1), NewTopic(f"{self.namespace}.small", 1, 1, config=small)]
        for done in admin.create_topics(topics).values():
            done.result(30)

    @property
    def environ(self) -> dict[str, str]:
        """What `kpipe up` gives a service."""
        return {
            "KPIPE_PIPELINE_FILES": str(self.file),
            "KPIPE_BOOTSTRAP": self.bootstrap,
            "KPIPE_HANDLER": "api",
        }

    def records(self, topic: str = "events") -> list[Message]:
        """Everything in a topic, by reading every partition to its end."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.partition.eof": True})
        name = f"{self.namespace}.{topic}"
        partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
        consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for partition in partitions])
        found, ended, deadline = [], 0, time.monotonic() + 30
        while ended < len(partitions) and time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                found.append(message)
            elif message is not None:
                ended += 1
        consumer.close()
        assert ended == len(partitions)
        return found


@pytest.fixture
def project(tmp_path: Path, kafka: str) -> Project:
    return Project(tmp_path, kafka)


@pytest.fixture
def publisher(project: Project) -> Iterator[Publisher]:
    with Publisher(environ=project.environ) as publisher:
        yield publisher


def test_an_event_is_where_it_says(project: Project, publisher: Publisher) -> None:
    delivered = publisher.publish("events", {"id": "größe", "amount": 99.99}, headers={"trace": "abc"})
    (record,) = project.records()
    assert (delivered.topic, delivered.partition, delivered.offset) == ("events", record.partition(), record.offset())
    assert record.key() == "größe".encode()
    assert record.value() == '{"id":"größe","amount":99.99}'.encode()
    (own, begun) = record.headers()
    assert own == ("trace", b"abc")
    assert begun[0] == "traceparent"


def test_headers_are_checked_before_anything_is_sent(project: Project, publisher: Publisher) -> None:
    odd = {"\ud800": "v", "a\0b": "v", "a": "\udc80", "b": 5, 5: "v", b"c": "v"}
    for name, value in odd.items():
        with pytest.raises(ContractError, match="header"):
            publisher.publish("events", {"id": 1}, headers={name: value})  # type: ignore[dict-item]
    for key in (5, "\ud800", ["k"]):
        with pytest.raises(ContractError, match="the key"):
            publisher.publish("events", {"id": 1}, key=key)  # type: ignore[arg-type]
    assert not project.records()


def test_headers_of_another_event_can_be_passed_on(project: Project, publisher: Publisher) -> None:
    """As they were read, repeated ones and those that are not UTF-8 among them; what only kpipe can say is left out."""
    headers = (("a", b"\xff"), ("a", None), ("caf\udce9", b"x"), ("kpipe-source", b"g/t/0/0/1"), ("kpipe-dlq-id", b"i"))
    publisher.publish("events", {"id": 1}, headers=headers)
    [read] = headers_of(project.records())
    assert read[:-1] == headers[:3] and read[-1][0] == "traceparent"


def test_events_of_one_key_share_a_partition_in_order(project: Project, publisher: Publisher) -> None:
    offsets = [publisher.publish("events", {"id": "one", "n": n}) for n in range(5)]
    assert len({delivered.partition for delivered in offsets}) == 1
    assert [json.loads(record.value() or b"")["n"] for record in project.records()] == [0, 1, 2, 3, 4]


def test_async_publishing_in_parallel(project: Project, publisher: Publisher) -> None:
    async def publish_many() -> set[tuple[int, int]]:
        done = await asyncio.gather(*(publisher.publish_async("events", {"id": n}) for n in range(200)))
        return {(delivered.partition, delivered.offset) for delivered in done}

    assert len(asyncio.run(publish_many())) == 200
    assert sorted(int(record.key() or b"") for record in project.records()) == list(range(200))


def test_threads_may_share_a_publisher(project: Project, publisher: Publisher) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: publisher.publish("events", {"id": n}), range(200)))
    assert len({(delivered.partition, delivered.offset) for delivered in done}) == 200
    assert len(project.records()) == 200


def test_a_cancelled_task_does_not_disturb_the_others(project: Project, publisher: Publisher) -> None:
    async def scenario() -> None:
        cancelled = asyncio.create_task(publisher.publish_async("events", {"id": "cancelled"}))
        await asyncio.sleep(0)
        cancelled.cancel()
        await publisher.publish_async("events", {"id": "kept"})

    asyncio.run(scenario())
    publisher.publish("events", {"id": "after"})
    assert {b"kept", b"after"} <= {record.key() for record in project.records()}


@pytest.mark.parametrize(
    "value", [{"amount": "ten", "id": "a"}, {"amount": 1}, {"id": "a", "amount": float("nan")}, None]
)
def test_what_breaks_the_contract_is_not_sent(project: Project, publisher: Publisher, value: Any) -> None:
    with pytest.raises(ContractError) as caught:
        publisher.publish("events", value)
    assert caught.value.violations
    assert caught.value.violations == publisher.violations("events", value)
    assert project.records() == []


def test_every_violation_is_told(publisher: Publisher) -> None:
    with pytest.raises(ContractError) as caught:
        publisher.publish("events", {"amount": "ten"})
    assert {path for path, _ in caught.value.violations} == {"$.amount", "$.id"}


def test_a_tombstone_with_a_key_is_sent(project: Project, publisher: Publisher) -> None:
    publisher.publish("events", None, key=b"\xff\x00")
    (record,) = project.records()
    assert (record.key(), record.value()) == (b"\xff\x00", None)


def test_an_event_that_kafka_will_never_take_breaks_its_contract(project: Project, publisher: Publisher) -> None:
    for size in (20_000, 2_000_000):  # over the topic's own limit; over any topic's
        with pytest.raises(ContractError, match="too large"):
            publisher.publish("small", {"id": "a", "text": os.urandom(size).hex()})
    publisher.publish("small", {"id": "a"})
    assert len(project.records("small")) == 1


@pytest.mark.parametrize(("topic", "said"), [("others", "produces"), ("none", "produces"), ("events.dlq", "produces")])
def test_a_service_writes_only_what_it_declares(publisher: Publisher, topic: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        publisher.publish(topic, {"id": "a"})
    assert said in caught.value.message + caught.value.hint


def test_outside_of_up_any_declared_topic_will_do(project: Project) -> None:
    environ = {name: value for name, value in project.environ.items() if name != "KPIPE_HANDLER"}
    with Publisher(environ=environ) as publisher:
        assert publisher.publish("small", {"id": "a"}).offset == 0
        with pytest.raises(UsageError, match="declares no topic none"):
            publisher.publish("none", {"id": "a"})


def test_a_closed_publisher_says_so(publisher: Publisher) -> None:
    publisher.publish("events", {"id": "a"})
    assert publisher.close() == 0
    assert publisher.close() == 0
    with pytest.raises(UsageError, match="closed"):
        publisher.publish("events", {"id": "a"})


def test_kafka_away_is_told_in_time_and_nothing_is_sent_later(project: Project) -> None:
    """The address answers to nobody, then to Kafka (by a relay): what was refused before must not appear."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    publisher = Publisher(timeout=1.5, environ={**project.environ, "KPIPE_BOOTSTRAP": f"127.0.0.1:{port}"})
    started = time.monotonic()
    with pytest.raises(BrokerError, match=r"did not acknowledge .* within 1\.5 s"):
        publisher.publish("events", {"id": "refused"})
    assert time.monotonic() - started < 5
    with Relay(port, project.bootstrap):
        assert publish_until_taken(publisher, {"id": "taken"}).offset >= 0
        publisher.close()
    assert {record.key() for record in project.records()} == {b"taken"}


def test_kafka_away_does_not_block_the_event_loop(project: Project) -> None:
    publisher = Publisher(timeout=1, environ={**project.environ, "KPIPE_BOOTSTRAP": "127.0.0.1:1"})

    async def scenario() -> float:
        asked = asyncio.gather(
            *(publisher.publish_async("events", {"id": n}) for n in range(20)), return_exceptions=True
        )
        longest, seen = 0.0, time.monotonic()
        while not asked.done():
            await asyncio.sleep(0.01)
            longest, seen = max(longest, time.monotonic() - seen), time.monotonic()
        assert all(isinstance(error, BrokerError) for error in asked.result())
        return longest

    assert asyncio.run(scenario()) < 0.5
    publisher.close()


def test_a_topic_that_is_missing_is_told_in_time(tmp_path: Path, project: Project) -> None:
    publisher = Publisher(timeout=1.5, environ={**project.environ, "KPIPE_HANDLER": ""})
    with pytest.raises(BrokerError, match="did not acknowledge") as caught:
        publisher.publish("others", {"id": "a"}, key="a")
    assert "topics sync" in caught.value.hint
    publisher.close()


def test_a_wrong_setup_is_told_before_anything_starts(tmp_path: Path, project: Project) -> None:
    with pytest.raises(UsageError, match="no pipeline file"):
        Publisher(environ={"KPIPE_PIPELINE_FILES": str(tmp_path / "none.yaml")})
    with pytest.raises(UsageError, match="declares no handler other"):
        Publisher(environ={**project.environ, "KPIPE_HANDLER": "other"})
    with pytest.raises(BrokerError, match="no Kafka is running"):
        Publisher(environ={"KPIPE_PIPELINE_FILES": str(project.file)})
    (tmp_path / "event.json").write_text('{"type": "strnig"}')
    with pytest.raises(FindingsError):
        Publisher(environ=project.environ)


def test_a_service_finds_the_pipeline_by_itself(project: Project) -> None:
    """As a script in the pipeline's folder, with the broker's address in .kpipe/, as `kpipe broker start` leaves it."""
    project.file.write_text(
        project.file.read_text().replace("topics:", f"kafka: {{bootstrap: '{project.bootstrap}'}}\ntopics:", 1)
    )
    script = "from orchestrator import Publisher; print(Publisher().publish('events', {'id': 'a'}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=project.base, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert "Delivered(topic='events'" in done.stdout
    assert len(project.records()) == 1


def publish_until_taken(publisher: Publisher, value: Any) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            return publisher.publish("events", value)
        except BrokerError:
            assert time.monotonic() < deadline


class Relay:
    """Passes connections to `port` on to Kafka: the address at which Kafka appears late."""

    def __init__(self, port: int, target: str) -> None:
        host, _, target_port = target.rpartition(":")
        self._target = (host, int(target_port))
        self._server = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._open:
            connection.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            kafka = socket.create_connection(self._target)
            self._open += [client, kafka]
            for source, sink in ((client, kafka), (kafka, client)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
