"""The hand-written loop: what somebody who knows Kafka writes for this one job, and no more.

It has no retries, dead letters, deduplication, lanes, deadlines, accounting or status. An event that breaks its
contract ends it. `patient`: it waits until its batch is full (the fastest); else it takes what is there.

    python loop.py BOOTSTRAP IN OUT GROUP [patient|prompt]
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, Message, Producer
from workload import authorize, validator

BATCH = 1_000


def main(bootstrap: str, source: str, target: str, group: str, pace: str = "patient") -> None:
    valid_order = validator("order-created").is_valid
    valid_payment = validator("payment-authorized").is_valid
    failures: list[KafkaError] = []
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 5,
        "delivery.report.only.error": True,
        "on_delivery": lambda error, message: failures.append(error),
    })  # fmt: skip
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "fetch.queue.backoff.ms": 10,  # of 1,000: a queue that was full for a moment would dry up
        "partition.assignment.strategy": "cooperative-sticky",
    })  # fmt: skip
    consumer.subscribe([source])
    while True:
        messages = consumer.consume(BATCH, 0.1) if pace == "patient" else take(consumer)
        for message in messages:
            if message.error():
                raise SystemExit(str(message.error()))
            order = orjson.loads(message.value())
            if not valid_order(order):
                raise SystemExit(f"{message.offset()}: not an order")
            payment = authorize(order)
            if not valid_payment(payment):
                raise SystemExit(f"{message.offset()}: not a payment")
            producer.produce(target, orjson.dumps(payment), payment["orderId"])
        if messages:
            if producer.flush(30) or failures:
                raise SystemExit(f"not acknowledged: {failures[:1]}")
            for last in {m.partition(): m for m in messages}.values():
                consumer.store_offsets(last)
            consumer.commit(asynchronous=True)


def take(consumer: Consumer) -> list[Message]:
    """The first event as soon as it comes, and what is there besides."""
    first: Any = consumer.poll(0.1)
    return [] if first is None else [first, *consumer.consume(BATCH - 1, 0)]


if __name__ == "__main__":
    main(*sys.argv[1:])
