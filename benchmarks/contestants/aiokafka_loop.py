"""The same loop on aiokafka: batches by `getmany`, all sends of a batch awaited together, then a commit.

python aiokafka_loop.py BOOTSTRAP IN OUT GROUP
"""

from __future__ import annotations

import asyncio
import sys

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from workload import authorize, validator

BATCH = 1_000


async def main(bootstrap: str, source: str, target: str, group: str) -> None:
    valid_order = validator("order-created").is_valid
    valid_payment = validator("payment-authorized").is_valid
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=5, compression_type="lz4"
    )
    consumer = AIOKafkaConsumer(
        source, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await producer.start()
    await consumer.start()
    while True:
        sent = []
        for messages in (await consumer.getmany(timeout_ms=100, max_records=BATCH)).values():
            for message in messages:
                order = orjson.loads(message.value)
                if not valid_order(order):
                    raise SystemExit(f"{message.offset}: not an order")
                payment = authorize(order)
                if not valid_payment(payment):
                    raise SystemExit(f"{message.offset}: not a payment")
                sent.append(await producer.send(target, orjson.dumps(payment), key=payment["orderId"].encode()))
        if sent:
            await producer.flush()
            for one in sent:
                one.result()
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
