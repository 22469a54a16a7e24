"""The hand-written loop with transactions: outputs and offsets are committed together, a thousand events at a time.

python transactional.py BOOTSTRAP IN OUT GROUP
"""

from __future__ import annotations

import sys

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from workload import authorize, validator

BATCH = 1_000


def main(bootstrap: str, source: str, target: str, group: str) -> None:
    valid_order = validator("order-created").is_valid
    valid_payment = validator("payment-authorized").is_valid
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "transactional.id": f"{group}.0",
        "transaction.timeout.ms": 10_000,
        "compression.type": "lz4",
        "linger.ms": 5,
    })  # fmt: skip
    producer.init_transactions(30)
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 10,
        "isolation.level": "read_committed",
    })  # fmt: skip
    consumer.subscribe([source])
    while True:
        messages = consumer.consume(BATCH, 0.1)
        if not messages:
            continue
        producer.begin_transaction()
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
        ends = {m.partition(): m.offset() + 1 for m in messages}
        offsets = [TopicPartition(source, partition, offset) for partition, offset in ends.items()]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
        producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
