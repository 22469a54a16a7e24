"""payments: by the amount alone, exactly, and the same at every delivery."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.payments import authorize
from orchestrator import Emit, Unavailable
from tests.unit.example.support import T0, event, order, published


def paid(changes: dict[str, Any] | None = None, timestamp: int = T0) -> Emit:
    emit = authorize(event("orders.created", order(**(changes or {})), timestamp=timestamp))
    assert emit is not None
    return emit


@pytest.mark.parametrize(
    ("amount", "limit", "topic"),
    [
        (99.99, None, "payments.authorized"),
        (100, None, "payments.authorized"),
        (Decimal("100.00"), None, "payments.authorized"),
        (100.01, None, "payments.rejected"),
        (150.00, None, "payments.rejected"),
        (0.1 + 0.2, "0.3", "payments.rejected"),  # 0.30000000000000004 is what was sent
        (0.3, "0.3", "payments.authorized"),
        (1.1, "1.10", "payments.authorized"),
        (4.35, "4.35", "payments.authorized"),  # the double is 4.3499999999999996447
        (1.005, "1.0049999999999999", "payments.rejected"),  # the double is 1.00499999999999989…
        (150.00, "1000", "payments.authorized"),
    ],
)
def test_the_amount_decides(monkeypatch: pytest.MonkeyPatch, amount: Any, limit: str | None, topic: str) -> None:
    monkeypatch.delenv("PAYMENT_LIMIT", raising=False)
    if limit is not None:
        monkeypatch.setenv("PAYMENT_LIMIT", limit)
    assert paid({"amount": amount}).topic == topic


def test_authorized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAYMENT_LIMIT", raising=False)
    record = published("payments.authorized", paid().value)
    value = json.loads(record.value or b"")
    assert list(value) == ["eventId", "orderId", "userId", "amount", "status", "authorizationCode", "processedAt"]
    assert value["orderId"] == order()["orderId"]
    assert record.key == order()["orderId"].encode()
    assert value["eventId"] != order()["eventId"]
    assert value["status"] == "AUTHORIZED"
    assert value["processedAt"] == "2026-01-15T10:30:00.000Z"
    assert b'"amount":99.99,' in (record.value or b"")


def test_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAYMENT_LIMIT", raising=False)
    value = json.loads(published("payments.rejected", paid({"amount": 150.00}).value).value or b"")
    assert list(value) == ["eventId", "orderId", "userId", "amount", "status", "rejectionReason", "processedAt"]
    assert (value["status"], value["rejectionReason"]) == ("REJECTED", "Insufficient funds")


@given(st.uuids(), st.decimals("0.01", "1000000000", places=2))
def test_a_redelivery_emits_the_same_bytes(event_id: Any, amount: Decimal) -> None:
    first, second = (paid({"eventId": str(event_id), "amount": amount}) for _ in range(2))
    assert first.topic == second.topic
    assert published(first.topic, first.value) == published(second.topic, second.value)


@given(st.decimals("0.01", "1000000000", places=2))
def test_an_amount_goes_through_unchanged(amount: Decimal) -> None:
    emit = paid({"amount": amount})
    sent = json.loads(published(emit.topic, emit.value).value or b"", parse_float=Decimal, parse_int=Decimal)
    assert sent["amount"] == amount


def test_orders_get_different_ids() -> None:
    other = paid({"eventId": "11111111-2222-3333-4444-555555555555"}).value
    assert other["eventId"] != paid().value["eventId"]
    assert other["authorizationCode"] != paid().value["authorizationCode"]


def test_a_tombstone_needs_no_payment() -> None:
    assert authorize(event("orders.created", None, key=b"o")) is None


@pytest.mark.parametrize("limit", ["plenty", "NaN", "Infinity", "1,000"])
def test_a_wrong_limit_fails_no_order(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv("PAYMENT_LIMIT", limit)
    with pytest.raises(Unavailable, match="PAYMENT_LIMIT"):
        paid()


@pytest.mark.parametrize("timestamp", [-1, -(2**63), 0, 2**63 - 1])
def test_any_record_time_will_do(timestamp: int) -> None:
    assert published("payments.authorized", paid(timestamp=timestamp).value).value
