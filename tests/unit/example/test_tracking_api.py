"""tracking-api: an order's state as HTTP shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from handlers.readmodel import ORDER_CREATED, PAYMENT_AUTHORIZED, Fact
from handlers.store import Store
from handlers.tracking_api import create_app
from tests.unit.example.support import ask

Get = Callable[..., httpx.Response]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "tracking.db")
    yield store
    store.close()


@pytest.fixture
def get(store: Store) -> Get:
    app = create_app(store)
    return lambda path, **request: ask(app, "GET", path, **request)


def create(store: Store, number: int, amount: str = "99.99") -> None:
    body = {"userId": "user-123", "amount": amount, "items": ["laptop"], "createdAt": "2026-01-15T10:30:00Z"}
    store.add(Fact(f"e{number}", f"o{number}", ORDER_CREATED, f"2026-01-15T10:30:{number:02}.000Z", body))


def test_an_order_and_its_payment(store: Store, get: Get) -> None:
    create(store, 1)
    assert get("/orders/o1/status").json()["status"] == "CREATED"
    body = {"status": "AUTHORIZED", "authorizationCode": "AUTH-1", "processedAt": "2026-01-15T10:30:02Z"}
    store.add(Fact("p1", "o1", PAYMENT_AUTHORIZED, "2026-01-15T10:30:02.000Z", body))
    response = get("/orders/o1/status")
    assert response.status_code == 200
    assert response.json() == {
        "orderId": "o1",
        "status": "PAYMENT_AUTHORIZED",
        "details": {
            "userId": "user-123",
            "amount": 99.99,
            "items": ["laptop"],
            "createdAt": "2026-01-15T10:30:00Z",
            "paymentStatus": "AUTHORIZED",
            "authorizationCode": "AUTH-1",
            "authorizedAt": "2026-01-15T10:30:02Z",
        },
        "events": [
            {"type": "OrderCreated", "timestamp": "2026-01-15T10:30:01.000Z"},
            {"type": "PaymentAuthorized", "timestamp": "2026-01-15T10:30:02.000Z"},
        ],
        "lastUpdated": "2026-01-15T10:30:02.000Z",
    }


@pytest.mark.parametrize("amount", ["99.99", "0.30000000000000004", "150.0", "100", "12345678901234567890.123"])
def test_an_amount_is_shown_digit_for_digit(store: Store, get: Get, amount: str) -> None:
    create(store, 1, amount)
    assert f'"amount":{amount},' in get("/orders/o1/status").text


@pytest.mark.parametrize("path", ["/orders/none/status", "/orders/%00/status", "/orders/%FF/status", "/orders/o1"])
def test_unknown_is_404(get: Get, path: str) -> None:
    response = get(path)
    assert response.status_code == 404
    assert set(response.json()) == {"error"}


def test_the_list_shows_the_latest_first(store: Store, get: Get) -> None:
    assert get("/orders").json() == {"orders": []}
    for number in (1, 3, 2):
        create(store, number)
    shown = get("/orders").json()["orders"]
    assert [order["orderId"] for order in shown] == ["o3", "o2", "o1"]
    assert shown[0] == get("/orders/o3/status").json()
    assert [order["orderId"] for order in get("/orders?limit=1").json()["orders"]] == ["o3"]
    assert get("/orders?limit=999999999").status_code == 200


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1.5", "9" * 5000, "²"])
def test_a_wrong_limit_is_400(get: Get, limit: str) -> None:
    response = get("/orders", params={"limit": limit})
    assert response.status_code == 400
    assert "limit" in response.json()["error"]


def test_health_and_methods(store: Store, get: Get) -> None:
    assert get("/").json() == {"service": "tracking-api", "status": "ok"}
    assert ask(create_app(store), "POST", "/orders").status_code == 405
