"""orders-api: 201 only for what Kafka has, and every reason why not."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

import httpx
import pytest

from handlers.orders_api import create_app
from handlers.web import MAX_BODY
from orchestrator.errors import BrokerError, ContractError
from tests.unit.example.support import FakePublisher, ask

GOOD = {"userId": "user-123", "amount": 99.99, "items": ["laptop", "mouse"]}
JSON = {"content-type": "application/json"}


def order(publisher: FakePublisher, headers: Any = JSON, **body: Any) -> httpx.Response:
    """POST /orders with ids and a time that are known."""
    numbers = count(1)
    app = create_app(
        publisher, lambda: f"00000000-0000-4000-8000-{next(numbers):012}", lambda: "2026-01-15T10:30:00.000Z"
    )
    return ask(app, "POST", "/orders", headers=headers, **body)


def violations(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 400
    return {violation["path"]: violation["message"] for violation in response.json()["violations"]}


def test_an_order_is_created() -> None:
    publisher = FakePublisher()
    response = order(publisher, json=GOOD)
    ids = {
        "orderId": "00000000-0000-4000-8000-000000000002",
        "eventId": "00000000-0000-4000-8000-000000000001",
    }
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {**ids, "status": "created", "message": "Order created successfully"}
    (record,) = publisher.records
    assert record.topic == "orders.created"
    assert record.key == ids["orderId"].encode()
    assert publisher.values == [{**ids, **GOOD, "status": "CREATED", "createdAt": "2026-01-15T10:30:00.000Z"}]


def test_an_order_belongs_to_the_trace_of_whoever_placed_it() -> None:
    publisher = FakePublisher()
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert order(publisher, headers=JSON | {"traceparent": parent}, json=GOOD).status_code == 201
    assert publisher.records[0].headers == (("traceparent", parent.encode()),)


@pytest.mark.parametrize(
    "amount", ["99.99", "150.00", "0.1", "100", "1E+2", "0.30000000000000004", "999999999.99", "1e-7"]
)
def test_an_amount_reaches_kafka_digit_for_digit(amount: str) -> None:
    publisher = FakePublisher()
    body = '{"userId": "u", "items": ["a"], "amount": ' + amount + "}"
    assert order(publisher, content=body).status_code == 201
    assert f'"amount":{amount.upper()},'.encode() in (publisher.records[0].value or b"")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"userId": None}, "$.userId"),
        ({"userId": ""}, "$.userId"),
        ({"amount": "ten"}, "$.amount"),
        ({"amount": 0}, "$.amount"),
        ({"amount": -5}, "$.amount"),
        ({"amount": True}, "$.amount"),
        ({"amount": 10**400}, "$.amount"),
        ({"amount": 10**15}, "$.amount"),
        ({"items": []}, "$.items"),
        ({"items": "laptop"}, "$.items"),
        ({"items": ["laptop", 5]}, "$.items[1]"),
        ({"status": "PAID"}, "$"),
    ],
)
def test_a_bad_order_names_the_place(change: dict[str, Any], path: str) -> None:
    publisher = FakePublisher()
    response = order(publisher, json={**GOOD, **change})
    if change == {"amount": 10**400}:  # no reader of JSON can hold that number: the body itself is refused
        assert response.status_code == 400
    else:
        assert list(violations(response)) == [path]
    assert publisher.records == []


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = violations(order(FakePublisher(), json={"amount": "ten", "items": [1], "colour": "red"}))
    assert set(found) == {"$", "$.userId", "$.amount", "$.items[0]"}
    assert "colour" in found["$"]
    assert found["$.userId"] == "is required"


@pytest.mark.parametrize("amount", ["99.99000000000000000001", "0.1000000000000000055", "123456789.123456789123"])
def test_an_amount_that_would_change_on_its_way_is_refused(amount: str) -> None:
    body = '{"userId": "u", "items": ["a"], "amount": ' + amount + "}"
    assert violations(order(FakePublisher(), content=body)) == {"$.amount": "has more digits than can be kept exactly"}


@pytest.mark.parametrize("body", ["null", "[]", "5", '"text"'])
def test_an_order_is_an_object(body: str) -> None:
    assert violations(order(FakePublisher(), content=body))["$"] == "is not an object"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"{",
        b"\xff\xfe",
        b'{"amount": NaN}',
        b'{"amount": Infinity}',
        b'{"amount": 1e999}',
        b'{"userId": "\\ud800"}',
        b"[" * 900_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 5000,
        '{"userId": "ü"}'.encode("utf-16"),
        '{"userId": "ü"}'.encode("latin-1"),
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    response = order(FakePublisher(), content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("The body is not JSON: ")


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "multipart/form-data"}])
def test_other_content_types_are_refused(headers: dict[str, str]) -> None:
    publisher = FakePublisher()
    response = order(publisher, headers=headers, content=json.dumps(GOOD))
    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]
    assert publisher.records == []


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
def test_json_content_types_are_taken(content_type: str) -> None:
    response = order(FakePublisher(), headers={"content-type": content_type}, content=json.dumps(GOOD))
    assert response.status_code == 201


@pytest.mark.parametrize("excess", [1, MAX_BODY, 20 * MAX_BODY])
def test_a_body_over_the_limit_is_413(excess: int) -> None:
    publisher = FakePublisher()
    response = order(publisher, content=b" " * (MAX_BODY + excess))
    assert response.status_code == 413
    assert "1000000 bytes" in response.json()["error"]
    assert publisher.records == []


def test_a_body_at_the_limit_is_read() -> None:
    publisher = FakePublisher()
    body = json.dumps(GOOD).encode()
    assert order(publisher, content=body + b" " * (MAX_BODY - len(body))).status_code == 201


def test_kafka_away_is_503() -> None:
    response = order(FakePublisher(BrokerError("Kafka did not acknowledge the event within 5 s")), json=GOOD)
    assert response.status_code == 503
    assert "Kafka did not acknowledge" in response.json()["error"]
    assert "retry-after" in response.headers


def test_what_kafka_refuses_for_good_is_400() -> None:
    refused = ContractError("too large", [("$", "Broker: Message size too large")])
    assert violations(order(FakePublisher(refused), json=GOOD)) == {"$": "Broker: Message size too large"}


def test_an_unexpected_error_shows_nothing_of_the_inside() -> None:
    response = order(FakePublisher(RuntimeError("secret")), json=GOOD)
    assert response.status_code == 500
    assert response.json() == {"error": "Internal server error"}


def test_health_and_what_is_not_there() -> None:
    app = create_app(FakePublisher())
    assert ask(app, "GET", "/").json() == {"service": "orders-api", "status": "ok"}
    assert ask(app, "HEAD", "/").status_code == 200
    missing = ask(app, "GET", "/nothing")
    assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})
    wrong = ask(app, "GET", "/orders")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json() == {"error": "Method Not Allowed"}
    assert ask(app, "POST", "/").status_code == 405


def test_the_publisher_is_closed_at_the_end() -> None:
    publisher = FakePublisher()
    app = create_app(publisher)

    async def live() -> None:
        async with app.router.lifespan_context(app):
            assert not publisher.closed

    asyncio.run(live())
    assert publisher.closed
