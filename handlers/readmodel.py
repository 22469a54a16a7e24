"""What is known about an order, told from the facts that arrived: pure, and the same in whatever order they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handlers.money import exact

ORDER_CREATED = "OrderCreated"
PAYMENT_AUTHORIZED = "PaymentAuthorized"
PAYMENT_REJECTED = "PaymentRejected"
DEAD_LETTERED = "DeadLettered"

#: Later outranks earlier. A payment outranks FAILED: the event got through after all, by a second try or a
#: redrive. Of two payments the authorized one counts, for money is held.
_RANKS: Mapping[str, str] = {
    ORDER_CREATED: "CREATED",
    DEAD_LETTERED: "FAILED",
    PAYMENT_REJECTED: "PAYMENT_REJECTED",
    PAYMENT_AUTHORIZED: "PAYMENT_AUTHORIZED",
}
_ORDER = tuple(_RANKS)


@dataclass(frozen=True, slots=True)
class Fact:
    """One event of one order. Facts with the same `id` and `type` are one fact.

    `at` is RFC 3339 in UTC with milliseconds, so that text sorts as time does. `body` has the members that
    the read model shows, as plain JSON values; amounts are text.
    """

    id: str
    order_id: str
    type: str
    at: str
    body: Mapping[str, Any] = field(default_factory=dict)


def view(order_id: str, facts: Iterable[Fact]) -> dict[str, Any]:
    """The order as `GET /orders/{orderId}/status` shows it. There must be at least one fact."""
    told = sorted(facts, key=lambda fact: (fact.at, _ORDER.index(fact.type), fact.id))
    by_type = {fact.type: fact for fact in reversed(told)}  # of several of a type, the earliest
    decisive = max(by_type, key=_ORDER.index)
    return {
        "orderId": order_id,
        "status": _RANKS[decisive],
        "details": _details(by_type, decisive),
        "events": [{"type": fact.type, "timestamp": fact.at} for fact in told],
        "lastUpdated": told[-1].at,
    }


def _details(by_type: Mapping[str, Fact], decisive: str) -> dict[str, Any]:
    order = _body(by_type, ORDER_CREATED)
    payment = _body(by_type, decisive) if decisive in (PAYMENT_AUTHORIZED, PAYMENT_REJECTED) else {}
    known = {**payment, **order}
    details = {
        "userId": known.get("userId"),
        "amount": None if known.get("amount") is None else exact(known["amount"]),
        "items": order.get("items"),
        "createdAt": order.get("createdAt"),
        "paymentStatus": payment.get("status"),
        "authorizationCode": payment.get("authorizationCode"),
        "authorizedAt": payment.get("processedAt") if decisive == PAYMENT_AUTHORIZED else None,
    }
    if decisive == PAYMENT_REJECTED:
        details["rejectionReason"] = payment.get("rejectionReason")
    if decisive == DEAD_LETTERED:
        details["failureReason"] = _body(by_type, DEAD_LETTERED).get("reason")
    return details


def _body(by_type: Mapping[str, Fact], type: str) -> Mapping[str, Any]:
    return by_type[type].body if type in by_type else {}
