"""The work that every contestant does: the same events, the same contracts, the same transformation."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson

HERE = Path(__file__).parent


def event(number: int, salt: int) -> tuple[str, bytes]:
    """Key and value (about 240 bytes of JSON) of one OrderCreated; the same for the same arguments."""
    chance = random.Random(salt << 40 | number)
    order_id = str(UUID(int=chance.getrandbits(128), version=4))
    value = {
        "eventId": str(UUID(int=chance.getrandbits(128), version=4)),
        "orderId": order_id,
        "userId": f"user-{chance.randrange(10_000)}",
        "amount": chance.randrange(1, 10_000) / 100,
        "items": ["book", "pen"],
        "status": "CREATED",
        "createdAt": "2026-01-01T12:00:00Z",
    }
    return order_id, orjson.dumps(value)


def authorize(order: dict[str, Any]) -> dict[str, Any]:
    """OrderCreated to PaymentAuthorized. Its id follows from the order's, so that a repetition has the same."""
    order_id = order["orderId"]
    return {
        "eventId": order["eventId"][::-1],
        "orderId": order_id,
        "userId": order["userId"],
        "amount": order["amount"],
        "status": "AUTHORIZED",
        "authorizationCode": f"AUTH-{order_id[:12]}",
        "processedAt": order["createdAt"],
    }


def validator(name: str) -> jsonschema_rs.Validator:
    """The compiled contract `<name>.json`."""
    return jsonschema_rs.validator_for(json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")))
