"""The Kafka of the benchmark: kpipe's own local one, or that of KAFKA_BOOTSTRAP; its topics and how full they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.process import wait_for
from benchmarks.project.workload import event

PARTITIONS = 3
KPIPE = (sys.executable, "-c", "import sys; from orchestrator.cli.main import main; sys.exit(main())")


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """The address of a Kafka; one that was started for it, in `folder`, is stopped afterwards."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    started = subprocess.run([*KPIPE, "broker", "start"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    try:
        yield started.stdout.strip()
    finally:
        subprocess.run([*KPIPE, "broker", "stop"], cwd=folder, check=True)


class Cluster:
    """Topics of `PARTITIONS` partitions each, filled and counted."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._watch = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-watch", "log_level": 0})
        self._failed: list[KafkaError] = []
        self._producer = Producer({
            "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "compression.type": "lz4",
            "linger.ms": 20, "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random",
            "delivery.report.only.error": True, "on_delivery": lambda error, _: self._failed.append(error),
            "log_level": 0,
        })  # fmt: skip

    def create(self, names: Sequence[str]) -> None:
        for done in self._admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
            done.result(30)
        # What is sent to a topic of which the client does not know all leaders yet is refused now and then.
        for name in names:
            wait_for(f"leaders of {name}", lambda name=name: self._has_leaders(name), 30)

    def _has_leaders(self, name: str) -> bool:
        found = self._producer.list_topics(name, 10).topics[name].partitions
        return len(found) == PARTITIONS and all(one.leader >= 0 for one in found.values())

    def delete(self, names: Sequence[str]) -> None:
        for done in self._admin.delete_topics(list(names)).values():
            done.result(30)

    def fill(self, topic: str, count: int, salt: int = 0) -> int:
        """Write `count` events; returns the bytes of their values."""
        size = 0
        for number in range(count):
            key, value = event(number, salt)
            size += len(value)
            self._producer.produce(topic, value, key)
            if number % 10_000 == 0:
                self._producer.poll(0)
        if self._producer.flush(60) or self._failed:
            raise RuntimeError(f"Kafka did not take the events: {self._failed[:1]}")
        return size

    def count(self, topic: str) -> int:
        """Records in `topic`, markers of transactions among them."""
        try:
            ends = [
                self._watch.get_watermark_offsets(TopicPartition(topic, p), timeout=10, cached=False)
                for p in range(PARTITIONS)
            ]
        except KafkaException:  # a topic so new that not everybody knows who leads it
            return 0
        return sum(high - low for low, high in ends)

    def shared_by(self, group: str, members: int) -> bool:
        """Whether so many members of the group have partitions, and no rebalance is under way."""
        found = self._admin.describe_consumer_groups([group])[group].result(10)
        own = [member for member in found.members if member.assignment.topic_partitions]
        return found.state == ConsumerGroupState.STABLE and len(own) == members

    def committed(self, group: str, topic: str) -> int:
        """Events of `topic` that `group` has behind it."""
        asked = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        try:
            found = asked.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], timeout=10)
            return sum(max(0, one.offset) for one in found)
        finally:
            asked.close()

    def close(self) -> None:
        self._watch.close()
