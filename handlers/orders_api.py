"""orders-api: takes orders over HTTP and answers 201 once Kafka has acknowledged OrderCreated.

    POST /orders   {"userId": "user-123", "amount": 99.99, "items": ["laptop", "mouse"]}
    GET  /         health

What an order must look like is said once, in schemas/order-created.json: the contract of the event is the
validation of the request. Run it with `kpipe up`; HOST and PORT move it from 127.0.0.1:3001.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import uuid4

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handlers.money import survives
from handlers.times import utc
from handlers.web import ERRORS, BadRequest, ExactJSON, read_json, serve
from orchestrator import Publisher
from orchestrator.errors import BrokerError, ContractError

TOPIC = "orders.created"
MEMBERS = ("userId", "amount", "items")
#: What one request may hold, however small: whoever reads an order has to cope with it.
MAX_ITEMS, MAX_ITEM = 1_000, 200
#: So many surplus members are listed; the contract's own violations are bounded, too.
_LISTED = 20


class Publishing(Protocol):
    """The part of `Publisher` that this API needs."""

    async def publish_async(
        self, topic: str, value: Any, *, headers: Mapping[str, str | bytes] | None = None
    ) -> Any: ...
    def violations(self, topic: str, value: Any) -> Sequence[tuple[str, str]]: ...
    def close(self) -> int: ...


def create_app(
    publisher: Publishing,
    new_id: Callable[[], str] = lambda: str(uuid4()),
    now: Callable[[], str] = lambda: utc(datetime.now(UTC)),
) -> Starlette:
    async def create(request: Request) -> Response:
        body = await read_json(request)
        order = _order(body, new_id, now)
        _refuse([*_request_violations(body), *publisher.violations(TOPIC, order)])
        try:
            await publisher.publish_async(TOPIC, order, headers=_trace(request))
        except ContractError as error:
            _refuse(error.violations)
        except BrokerError as error:
            return ExactJSON({"error": f"The order could not be confirmed: {error.message}"}, 503, {"Retry-After": "1"})
        created = {"status": "created", "message": "Order created successfully"}
        return ExactJSON({"orderId": order["orderId"], "eventId": order["eventId"], **created}, 201)

    async def health(request: Request) -> Response:
        return ExactJSON({"service": "orders-api", "status": "ok"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(publisher.close)

    routes = [Route("/", health, methods=["GET"]), Route("/orders", create, methods=["POST"])]
    return Starlette(routes=routes, exception_handlers=dict(ERRORS), lifespan=lifespan)


def _order(body: Any, new_id: Callable[[], str], now: Callable[[], str]) -> dict[str, Any]:
    """OrderCreated from a request's body, whatever that is: what is missing or wrong its contract will say."""
    given = body if isinstance(body, Mapping) else {}
    ids = {"eventId": new_id(), "orderId": new_id()}
    asked = {name: given[name] for name in MEMBERS if name in given}
    return {**ids, **asked, "status": "CREATED", "createdAt": now()}


def _trace(request: Request) -> dict[str, str | bytes]:
    """The caller's trace, which the order then belongs to; without one the publisher begins one."""
    parent = request.headers.get("traceparent")
    return {} if parent is None else {"traceparent": parent}


def _request_violations(body: Any) -> list[tuple[str, str]]:
    """What is wrong with a request and could not be seen in the event made from it."""
    if not isinstance(body, Mapping):
        return [("$", "is not an object")]
    surplus = [name for name in body if name not in MEMBERS]
    wrong = [("$", f"{name[:100]!a} is not a member of an order") for name in surplus[:_LISTED]]
    if len(surplus) > _LISTED:
        wrong.append(("$", f"and {len(surplus) - _LISTED} more"))
    amount = body.get("amount")
    if isinstance(amount, Decimal) and not survives(amount):
        wrong.append(("$.amount", "has more digits than can be kept exactly"))
    return wrong + _too_much(body.get("items"))


def _too_much(items: Any) -> list[tuple[str, str]]:
    if not isinstance(items, list):
        return []
    if len(items) > MAX_ITEMS:
        return [("$.items", f"has {len(items)} items; an order may have {MAX_ITEMS}")]
    long = [n for n, item in enumerate(items) if isinstance(item, str) and len(item) > MAX_ITEM]
    return [(f"$.items[{n}]", f"has more than {MAX_ITEM} characters") for n in long[:_LISTED]]


def _refuse(violations: Sequence[tuple[str, str]]) -> None:
    if violations:
        listed = [{"path": path, "message": message} for path, message in violations]
        raise BadRequest("The order is not valid", listed)


if __name__ == "__main__":
    serve("orders-api", lambda: create_app(Publisher()), 3001)
