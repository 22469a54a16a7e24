"""A pipeline with its topics on a real cluster, under a namespace of its own, and any client to write to them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from orchestrator.config.model import KafkaSettings
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from orchestrator.records import TopicSpec
from tests.support.shell import Done, eventually, kpipe

PIPELINE = """\
kpipe: 1
pipeline: shop
namespace: {namespace}
kafka: {{bootstrap: "{bootstrap}"}}
topics:
  orders: {{schema: order.json, key: orderId, dlq: orders.dlq, configs: {{max.message.bytes: 1MiB}}}}
  notes: {{dlq: orders.dlq}}
  late: {{dlq: orders.dlq}}
events:
  order:
    topic: orders
    example: example.json
    generate: {{eventId: uuid, orderId: uuid, createdAt: now}}
"""
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["eventId", "orderId", "amount"],
    "properties": {
        "eventId": {"type": "string", "format": "uuid"},
        "orderId": {"type": ["string", "integer"]},
        "amount": {"type": "number"},
        "createdAt": {"type": "string", "format": "date-time"},
    },
}
EXAMPLE = '{"eventId": "x", "orderId": "x", "amount": 150.00, "user": {"name": "a", "age": 4}, "createdAt": "x"}'
PARTITIONS = {"orders": 3, "orders.dlq": 3, "notes": 1}


class Orders:
    """`orders` (3 partitions, schema, key), `orders.dlq` and `notes` (one partition) exist; `late` does not."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder, self.bootstrap = folder, bootstrap
        self.namespace = f"t{uuid.uuid4().hex[:10]}"
        text = PIPELINE.format(namespace=self.namespace, bootstrap=bootstrap)
        (folder / "pipeline.yaml").write_text(text)
        (folder / "order.json").write_text(json.dumps(SCHEMA))
        (folder / "example.json").write_text(EXAMPLE)
        self.admin = ClusterAdmin(client_properties(KafkaSettings(), "admin", bootstrap))
        specs = [TopicSpec(self.topic(name), count, 1) for name, count in PARTITIONS.items()]
        assert set(self.admin.create(specs).values()) == {None}
        eventually(lambda: {spec.name for spec in specs} <= self.admin.topic_names())

    def topic(self, name: str) -> str:
        """The name on the cluster."""
        return f"{self.namespace}.{name}"

    def run(self, *words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
        return kpipe(self.folder, *words, stdin=stdin, env=env)

    def sent(self, *words: str, stdin: bytes = b"") -> list[dict[str, Any]]:
        """`kpipe send … --json`, which has to succeed."""
        return self.lines("send", *words, stdin=stdin)

    def tailed(self, *words: str) -> list[dict[str, Any]]:
        """`kpipe tail … --json`, which has to succeed. All that it may say is how much it scanned."""
        done = self.run("tail", *words, "--json")
        assert done.code == 0, done.err
        assert re.fullmatch(r"(scanned [\d,]+ records? in [\d.]+ s, [\d,]+ shown\n)?", done.err), done.err
        return [json.loads(line) for line in done.out.splitlines()]

    def lines(self, *words: str, stdin: bytes = b"") -> list[dict[str, Any]]:
        done = self.run(*words, "--json", stdin=stdin)
        assert (done.code, done.err) == (0, ""), done
        return [json.loads(line) for line in done.out.splitlines()]

    def close(self) -> None:
        self.admin.delete([self.topic(name) for name in PARTITIONS])


@contextmanager
def orders_in(folder: Path, bootstrap: str) -> Iterator[Orders]:
    made = Orders(folder, bootstrap)
    try:
        yield made
    finally:
        made.close()


def write(bootstrap: str, topic: str, records: list[dict[str, Any]], **more: Any) -> None:
    """Produce with a plain client. `records` are keyword arguments of `produce`."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, **more})
    for record in records:
        producer.produce(topic, **record)
    assert producer.flush(10) == 0
