"""Quix Streams: a dataframe of one topic into another, with its own JSON (which is orjson).

python quix.py BOOTSTRAP IN OUT GROUP
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application
from workload import authorize, validator


def main(bootstrap: str, source: str, target: str, group: str) -> None:
    valid_order = validator("order-created").is_valid
    valid_payment = validator("payment-authorized").is_valid

    def handle(order: dict[str, Any]) -> dict[str, Any]:
        if not valid_order(order):
            raise SystemExit("not an order")
        payment = authorize(order)
        if not valid_payment(payment):
            raise SystemExit("not a payment")
        return payment

    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        producer_extra_config={"acks": "all", "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 5},
        loglevel="ERROR",
    )
    frame = app.dataframe(app.topic(source)).apply(handle)
    frame.to_topic(app.topic(target))
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
