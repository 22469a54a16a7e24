"""What both APIs share: JSON in within limits, exact JSON out, errors as JSON, and how they are served."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from handlers.limits import BODY_SECONDS, hosts_of, run
from orchestrator.contracts import Undecodable, decode_json, encode_json
from orchestrator.errors import KpipeError

MAX_BODY = 1_000_000
#: How much of a body that is too large is still read, so that its sender gets to see the answer.
_MAX_DRAINED = 8 * MAX_BODY


class ExactJSON(Response):
    """A JSON response in which a `Decimal` is a number with all its digits."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode_json(content)


class BadRequest(Exception):
    """The request is wrong: 400, with what is wrong where."""

    def __init__(self, message: str, violations: Sequence[dict[str, str]] = ()) -> None:
        super().__init__(message)
        self.violations = list(violations)


async def read_json(request: Request) -> Any:
    """The body's JSON value; numbers with a fraction or exponent are `Decimal`, digit for digit.

    Raises BadRequest for what is not JSON in UTF-8 (NaN, infinities and nesting without end included), and
    HTTPException: 413 above `MAX_BODY` bytes, 415 when it is compressed, 408 when it takes too long. A content
    type that is not JSON is refused, too: a web page from elsewhere could otherwise post to a service on this
    machine without asking (it may send plain text unasked, JSON not).
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise HTTPException(415, "The body must be sent without a Content-Encoding", headers={"Connection": "close"})
    body = await _body(request)
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise BadRequest("The body must be JSON; send it with Content-Type: application/json")
    try:
        decode_json(body)  # stricter than Python's reader, and its limits are those of every consumer
    except Undecodable as error:
        raise BadRequest(f"The body is not JSON: {error.reason}") from None
    return json.loads(body, parse_float=Decimal)


async def _body(request: Request) -> bytes:
    if _announced(request) > MAX_BODY and request.headers.get("expect"):
        raise _too_large()  # the client waits for a word before it sends: this is it
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _received(request)
    except TimeoutError:
        raise HTTPException(408, f"The body took over {BODY_SECONDS:g} s", headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise BadRequest("The body ended early") from None


async def _received(request: Request) -> bytes:
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MAX_DRAINED:
            break
        if size <= MAX_BODY:
            body += chunk
    if size > MAX_BODY:
        raise _too_large()
    return bytes(body)


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {MAX_BODY} bytes", headers={"Connection": "close"})


async def _http_error(request: Request, error: HTTPException) -> Response:
    return ExactJSON({"error": error.detail}, error.status_code, headers=error.headers)


async def _bad_request(request: Request, error: BadRequest) -> Response:
    return ExactJSON({"error": str(error), "violations": error.violations}, 400)


async def _unexpected(request: Request, error: Exception) -> Response:
    return ExactJSON({"error": "Internal server error"}, 500)


#: For `Starlette(exception_handlers=…)`: every error of these APIs is JSON, `{"error": "…"}`.
ERRORS: Mapping[Any, Any] = {HTTPException: _http_error, BadRequest: _bad_request, Exception: _unexpected}


def serve(name: str, make_app: Callable[[], Starlette], port: int) -> None:
    """Serve until SIGTERM: on loopback at `port`, unless HOST and PORT say otherwise."""
    wanted = os.environ.get("PORT") or str(port)
    if not wanted.isascii() or not wanted.isdigit() or int(wanted) > 65_535:
        sys.exit(f"{name}: PORT={wanted} is not a port number")
    try:
        app = make_app()
    except KpipeError as error:
        sys.exit(f"{name}: {error.message}. {error.hint}")
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"{name}: {error}")
    host = os.environ.get("HOST") or "127.0.0.1"
    run(app, host, int(wanted), hosts_of(os.environ, host))
