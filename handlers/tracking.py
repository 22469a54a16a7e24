"""tracking: every event of an order, dead letters included, into the read model.

Events may come in any order and more than once: each is stored as a fact of its own, and what they mean
together is worked out when somebody asks (readmodel.py).
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from handlers.money import exact
from handlers.readmodel import (
    DEAD_LETTERED,
    ORDER_CREATED,
    PAYMENT_AUTHORIZED,
    PAYMENT_REJECTED,
    Fact,
)
from handlers.store import Store, path_from_environment
from handlers.times import record_time, utc
from orchestrator import Event, Unavailable

_log = logging.getLogger("tracking")

_TYPES = {
    "orders.created": ORDER_CREATED,
    "payments.authorized": PAYMENT_AUTHORIZED,
    "payments.rejected": PAYMENT_REJECTED,
}
_SHOWN = ("userId", "items", "createdAt", "status", "authorizationCode", "rejectionReason", "processedAt")
_LONGEST_ID = 200


def track(event: Event) -> None:
    """Remember one event. Topics that are not listed above are DLQs."""
    fact = _order_event(event) if event.topic in _TYPES else _letter(event)
    if fact is None:
        return
    try:
        _store(path_from_environment()).add(fact)
    except (sqlite3.DatabaseError, OSError) as error:
        # Disk full, file locked or broken: no event is at fault, so wait instead of giving this one up.
        raise Unavailable(f"the read model cannot be written: {error}") from error


@lru_cache(maxsize=1)
def _store(path: Path) -> Store:
    return Store(path)


def _order_event(event: Event) -> Fact | None:
    value = event.value
    if value is None:  # a tombstone says nothing about an order's way
        return None
    kind = _TYPES[event.topic]
    moment = value["createdAt" if kind == ORDER_CREATED else "processedAt"]
    body = {name: value[name] for name in _SHOWN if name in value}
    body["amount"] = str(exact(value["amount"]))
    return Fact(value["eventId"], value["orderId"], kind, _moment(moment, event), body)


def _letter(event: Event) -> Fact | None:
    """A dead letter can be anything: not JSON, without an order's id, without headers that say why it is there."""
    order_id = _order_id(event)
    if order_id is None:
        _log.warning("%s[%d]@%d belongs to no order", event.topic, event.partition, event.offset)
        return None
    letter = event.letter
    origin = f"{event.topic}/{event.partition}/{event.offset}" if letter is None else letter.id
    # Offsets start again when a cluster is wiped; with the time they name one letter for good.
    identity = f"{origin}@{event.timestamp}"
    body = {"reason": "unknown" if letter is None else letter.reason}
    return Fact(identity, order_id, DEAD_LETTERED, record_time(event), body)


def _order_id(event: Event) -> str | None:
    """The value's `orderId`, else the key, which is the order's id too."""
    value = event.value.get("orderId") if isinstance(event.value, Mapping) else None
    key = None if event.raw_key is None else event.raw_key.decode("utf-8", "backslashreplace")
    return next((found for found in (value, key) if _is_id(found)), None)


def _is_id(found: Any) -> bool:
    return isinstance(found, str) and 0 < len(found) <= _LONGEST_ID


def _moment(text: str, event: Event) -> str:
    """`text` in UTC; the record's time where Python cannot read it, as with a leap second."""
    try:
        return utc(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError):
        return record_time(event)
