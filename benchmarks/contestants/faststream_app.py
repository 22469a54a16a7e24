"""FastStream on aiokafka: a subscriber of batches, or of single events.

python faststream_app.py BOOTSTRAP IN OUT GROUP batch|each
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import orjson
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from workload import authorize, validator

BATCH = 1_000


def main(bootstrap: str, source: str, target: str, group: str, how: str) -> None:
    valid_order = validator("order-created").is_valid
    valid_payment = validator("payment-authorized").is_valid
    linger = 5 if how == "batch" else 0
    broker = KafkaBroker(
        bootstrap, acks="all", enable_idempotence=True, linger_ms=linger, compression_type="lz4", logger=None
    )
    common = {"group_id": group, "auto_offset_reset": "earliest", "ack_policy": AckPolicy.ACK}

    # It decodes JSON by itself before it calls a handler.
    def pay(order: dict[str, Any]) -> tuple[bytes, bytes]:
        if not valid_order(order):
            raise SystemExit("not an order")
        payment = authorize(order)
        if not valid_payment(payment):
            raise SystemExit("not a payment")
        return payment["orderId"].encode(), orjson.dumps(payment)

    if how == "batch":

        @broker.subscriber(source, batch=True, max_records=BATCH, **common)
        async def handle_batch(orders: list[dict[str, Any]]) -> None:
            sends = [pay(order) for order in orders]
            # `publish_batch` would put all of them into one partition, whatever their keys.
            await asyncio.gather(*[await publish(key, value) for key, value in sends])

        async def publish(key: bytes, value: bytes) -> asyncio.Future[object]:
            return await broker.publish(value, target, key=key, no_confirm=True)
    else:

        @broker.subscriber(source, **common)
        async def handle(order: dict[str, Any]) -> None:
            key, value = pay(order)
            await broker.publish(value, target, key=key)

    logging.disable(logging.WARNING)
    asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
