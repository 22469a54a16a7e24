"""tracking-api: what became of an order, over HTTP, from the read model that `tracking` writes.

GET /orders/{orderId}/status   one order; 404 when nothing is known about it
GET /orders?limit=100          the orders that changed last, newest first (at most 1000)
GET /                          health
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handlers.readmodel import view
from handlers.store import Store, path_from_environment
from handlers.web import ERRORS, BadRequest, ExactJSON, serve

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


def create_app(store: Store) -> Starlette:
    # These are no coroutines on purpose: Starlette runs them in threads, where waiting for the disk blocks
    # nobody.
    def status(request: Request) -> Response:
        order_id = request.path_params["order_id"]
        facts = store.facts(order_id)
        if not facts:
            raise HTTPException(404, f"Nothing is known about the order {order_id}")
        return ExactJSON(view(order_id, facts))

    def orders(request: Request) -> Response:
        latest = store.latest(_limit(request.query_params.get("limit")))
        return ExactJSON({"orders": [view(order_id, facts) for order_id, facts in latest.items()]})

    def health(request: Request) -> Response:
        return ExactJSON({"service": "tracking-api", "status": "ok"})

    routes = [
        Route("/", health, methods=["GET"]),
        Route("/orders", orders, methods=["GET"]),
        Route("/orders/{order_id}/status", status, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers=dict(ERRORS))


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise BadRequest("limit must be a number from 1 to 1000")
    return min(int(text), MAX_LIMIT)


if __name__ == "__main__":
    serve("tracking-api", lambda: create_app(Store(path_from_environment())), 3002)
