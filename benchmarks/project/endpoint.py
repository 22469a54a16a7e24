"""The benchmark's handler as an HTTP endpoint."""

from __future__ import annotations

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from workload import authorize


async def authorized(request: Request) -> Response:
    emit = [{"topic": "payments", "value": authorize(orjson.loads(await request.body()))}]
    return Response(orjson.dumps({"emit": emit}), media_type="application/json")


app = Starlette(routes=[Route("/", authorized, methods=["POST"])])
