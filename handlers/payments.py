"""payments: decides every order's payment, by the amount alone.

A handler may see an event again (after a crash, say). So everything it emits follows from the order's
event: the ids, the code, even the time. A repetition is then the same event, and whoever has seen it drops
it.
"""

from __future__ import annotations

import os
from decimal import Decimal
from functools import lru_cache
from uuid import UUID, uuid5

from handlers.money import exact
from handlers.times import record_time
from orchestrator import Emit, Event, Unavailable

DEFAULT_LIMIT = "100.00"
_IDS = UUID("6f2f2d0e-5a0c-4c0c-9a53-6f1a4b0d7c11")


def authorize(event: Event) -> Emit | None:
    """OrderCreated in; PaymentAuthorized out, or PaymentRejected above the limit (`PAYMENT_LIMIT`)."""
    if event.value is None:  # a tombstone: the order was deleted, there is nothing to pay
        return None
    order, amount = event.value, exact(event.value["amount"])
    authorized = amount <= _limit(os.environ.get("PAYMENT_LIMIT", DEFAULT_LIMIT))
    status = "AUTHORIZED" if authorized else "REJECTED"
    event_id = uuid5(_IDS, f"{order['eventId']}/{status}")
    verdict = (
        {"authorizationCode": f"AUTH-{event_id.hex[:12].upper()}"}
        if authorized
        else {"rejectionReason": "Insufficient funds"}
    )
    payment = {
        "eventId": str(event_id),
        "orderId": order["orderId"],
        "userId": order["userId"],
        "amount": amount,
        "status": status,
        **verdict,
        "processedAt": record_time(event),
    }
    return Emit("payments.authorized" if authorized else "payments.rejected", payment)


@lru_cache(maxsize=1)
def _limit(text: str) -> Decimal:
    try:
        return exact(text)
    except ValueError:
        # A wrong setting is nobody's order's fault: wait for it to be put right instead of failing orders.
        raise Unavailable(f"PAYMENT_LIMIT={text!r} is not an amount such as {DEFAULT_LIMIT}") from None
