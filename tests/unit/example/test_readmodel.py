"""The read model: the same whatever the order of arrival and however often things arrive."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.readmodel import (
    DEAD_LETTERED,
    ORDER_CREATED,
    PAYMENT_AUTHORIZED,
    PAYMENT_REJECTED,
    Fact,
    view,
)

CREATED = Fact(
    "e1",
    "o",
    ORDER_CREATED,
    "2026-01-15T10:30:00.000Z",
    {"userId": "user-123", "amount": "99.99", "items": ["laptop"], "createdAt": "2026-01-15T10:30:00Z"},
)
AUTHORIZED = Fact(
    "e2",
    "o",
    PAYMENT_AUTHORIZED,
    "2026-01-15T10:30:00.100Z",
    {
        "userId": "user-123",
        "amount": "99.99",
        "status": "AUTHORIZED",
        "authorizationCode": "AUTH-1",
        "processedAt": "2026-01-15T10:30:00.1Z",
    },
)
REJECTED = Fact(
    "e3",
    "o",
    PAYMENT_REJECTED,
    "2026-01-15T10:30:00.100Z",
    {
        "userId": "user-123",
        "amount": "99.99",
        "status": "REJECTED",
        "rejectionReason": "Insufficient funds",
        "processedAt": "2026-01-15T10:30:00.1Z",
    },
)
FAILED = Fact("l1@5", "o", DEAD_LETTERED, "2026-01-15T10:30:05.000Z", {"reason": "exhausted"})


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ([CREATED], "CREATED"),
        ([CREATED, AUTHORIZED], "PAYMENT_AUTHORIZED"),
        ([CREATED, REJECTED], "PAYMENT_REJECTED"),
        ([CREATED, FAILED], "FAILED"),
        ([FAILED], "FAILED"),
        ([AUTHORIZED], "PAYMENT_AUTHORIZED"),
        ([FAILED, AUTHORIZED], "PAYMENT_AUTHORIZED"),
        ([CREATED, FAILED, REJECTED], "PAYMENT_REJECTED"),
        ([CREATED, REJECTED, AUTHORIZED], "PAYMENT_AUTHORIZED"),
    ],
)
def test_status(facts: list[Fact], status: str) -> None:
    assert view("o", facts)["status"] == status


def test_the_whole_view_of_an_authorized_order() -> None:
    assert view("o", [AUTHORIZED, CREATED]) == {
        "orderId": "o",
        "status": "PAYMENT_AUTHORIZED",
        "details": {
            "userId": "user-123",
            "amount": Decimal("99.99"),
            "items": ["laptop"],
            "createdAt": "2026-01-15T10:30:00Z",
            "paymentStatus": "AUTHORIZED",
            "authorizationCode": "AUTH-1",
            "authorizedAt": "2026-01-15T10:30:00.1Z",
        },
        "events": [
            {"type": "OrderCreated", "timestamp": "2026-01-15T10:30:00.000Z"},
            {"type": "PaymentAuthorized", "timestamp": "2026-01-15T10:30:00.100Z"},
        ],
        "lastUpdated": "2026-01-15T10:30:00.100Z",
    }


def test_a_rejected_order_says_why() -> None:
    details = view("o", [CREATED, REJECTED])["details"]
    assert details["rejectionReason"] == "Insufficient funds"
    assert (details["paymentStatus"], details["authorizationCode"], details["authorizedAt"]) == ("REJECTED", None, None)


def test_a_failed_order_says_why() -> None:
    details = view("o", [CREATED, FAILED])["details"]
    assert (details["failureReason"], details["paymentStatus"]) == ("exhausted", None)


def test_a_payment_that_overtook_its_order_shows_what_it_knows() -> None:
    details = view("o", [AUTHORIZED])["details"]
    assert (details["userId"], details["amount"], details["items"]) == ("user-123", Decimal("99.99"), None)


def test_of_two_events_at_one_time_the_order_comes_first() -> None:
    payment = Fact("e0", "o", PAYMENT_AUTHORIZED, CREATED.at, AUTHORIZED.body)
    assert [event["type"] for event in view("o", [payment, CREATED])["events"]] == ["OrderCreated", "PaymentAuthorized"]


moments = st.integers(0, 3).map(lambda n: f"2026-01-15T10:30:0{n}.000Z")
bodies: dict[str, Any] = {fact.type: fact.body for fact in (CREATED, AUTHORIZED, REJECTED, FAILED)}
facts = st.builds(
    lambda id, kind, at: Fact(id, "o", kind, at, bodies[kind]),
    st.sampled_from("abcdef"),
    st.sampled_from(sorted(bodies)),
    moments,
)


@given(st.lists(facts, min_size=1, max_size=8, unique_by=lambda f: (f.id, f.type)), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(arrived: list[Fact], chance: random.Random) -> None:
    shuffled = list(arrived)
    chance.shuffle(shuffled)
    assert view("o", shuffled) == view("o", arrived)
