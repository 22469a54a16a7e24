"""The control socket, and the port for metrics: routes behind a Unix socket of this user's, or on loopback.

The requests are in docs/control-api.md: one for each connection, parameters in the query, a body is ignored.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from orchestrator.serving import Hosts, ListenerLimits, Page, Request, RequestRefused, Response, Server, Site
from orchestrator.serving.limits import connections

_BACKLOG = 100
_CONNECTIONS = 64

#: The parameters of a request, each with its values in their order.
Query = Mapping[str, list[str]]
Routes = Mapping[tuple[str, str], Callable[[Query], Response | Page | Awaitable[Response]]]


def serve(path: Path, routes: Routes, say: Callable[[str], None]) -> Server:
    """Answer at `path`, which must be free, inside `async with`. Closing the server removes no file."""
    # Browsers cannot get to a Unix socket, and its clients call it by any name.
    return Server(_listening(path), _site(routes, None), say)


def serve_port(port: int, routes: Routes, hosts: Hosts, say: Callable[[str], None]) -> Server:
    """Answer on a port of the loopback interface, which every user of the machine can reach; 0 takes a free one.

    Raises `OSError` when it is taken.
    """
    return Server(socket.create_server(("127.0.0.1", port), backlog=_BACKLOG), _site(routes, hosts), say)


def _site(routes: Routes, hosts: Hosts | None) -> Site:
    async def answer(request: Request) -> Response | Page:
        if (request.method, request.path) in routes:
            answer = routes[request.method, request.path](parse_qs(request.query, keep_blank_values=True))
            return await answer if isinstance(answer, Awaitable) else answer
        allowed = [method for method, path in routes if path == request.path]
        if allowed:
            raise RequestRefused(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not for {request.path}",
                headers={"Allow": ", ".join(allowed)},
            )  # fmt: skip
        raise RequestRefused(HTTPStatus.NOT_FOUND, f"there is no {request.path}")

    return Site(answer, hosts, ListenerLimits(connections=connections(_CONNECTIONS)))


def _listening(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is right from the first moment, not only after a chmod.
    before = os.umask(0o177)
    try:
        bound.bind(os.fspath(path))
        bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound
