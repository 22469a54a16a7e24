"""uvicorn with what it lacks for a server that strangers can reach: a cap on connections, deadlines, whose `Host`.

Rules of this file:
- The client has its turn (a head, a body) and the application has its own (the answer); each has a deadline that no
  single byte extends.
- At the limit the connection that has been idle for longest makes way for the new one.
- Out of descriptors: idle connections are closed, asyncio tries again a second later, and it is said once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.contracts import encode_json
from orchestrator.serving.hosts import LOOPBACK, Hosts
from orchestrator.serving.limits import connections
from orchestrator.serving.overload import is_overload

CONNECTIONS = 256
HEAD_BYTES = 16_384
#: From the connection, or the last answer, to the end of a head; then to that of the body; then to that of the answer.
HEAD_SECONDS, BODY_SECONDS, ANSWER_SECONDS = 10.0, 60.0, 30.0
#: What the application gets to say that a body was late (seconds).
_GRACE = 5.0
_SILENCE = 60.0
_CLIENTS_TURN = (h11.IDLE, h11.SEND_BODY)

log = logging.getLogger("uvicorn.error")


class Bounded(H11Protocol):
    """One connection of a client that may be slow, silent or one of very many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._phase: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self.since = 0.0
        self._heed()
        if len(self.connections) > connections(CONNECTIONS):
            close_idle(self.connections, 1)

    def data_received(self, data: bytes) -> None:
        # h11 bounds a head only while it is incomplete, so it gets no more than that at once.
        for start in range(0, len(data), HEAD_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + HEAD_BYTES])
        self._heed()

    def on_response_complete(self) -> None:
        self._phase = None
        super().on_response_complete()
        self._heed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._phase = None
        if self._timer is not None:
            self._timer.cancel()

    @property
    def idle(self) -> bool:
        """Whether it is the client that is waited for: to send, or to read."""
        return self.conn.their_state in _CLIENTS_TURN or self.transport.get_write_buffer_size() > 0

    def _heed(self) -> None:
        """Start the clock anew when it is somebody else's turn."""
        phase = self.conn.their_state
        if phase is self._phase or self.transport.is_closing():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._phase, self.since = phase, self.loop.time()
        seconds = {h11.IDLE: HEAD_SECONDS, h11.SEND_BODY: BODY_SECONDS + _GRACE}.get(phase, ANSWER_SECONDS)
        self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0] and not self.transport.is_closing():
            body = encode_json({"error": f"The request's head took over {HEAD_SECONDS:g} s"})
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            self.transport.close()
        else:
            self.transport.abort()


def close_idle(open_connections: set[Any], most: int) -> int:
    """Close the connections that have been idle for longest; returns how many."""
    idle = [each for each in open_connections if each.idle and not each.transport.is_closing()]
    idle.sort(key=lambda each: each.since)
    for each in idle[:most]:
        each.transport.abort()
    return len(idle[:most])


class OnlyHosts:
    """Refuses requests for names that are not this server's: a page of another site could have been given one."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope.get("headers", ()) if name == b"host"), None)
        if scope["type"] == "http" and host is not None and not self._hosts.allow(host.decode("latin-1")):
            body = encode_json({"error": "No such host is served here; ALLOWED_HOSTS names those that are"})
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 421, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await self._app(scope, receive, send)


def hosts_of(environ: Mapping[str, str], host: str) -> Hosts:
    """The names of a server that listens on `host`: loopback, `host`, ALLOWED_HOSTS; off loopback any address, too."""
    return Hosts.of(environ, host, *environ.get("ALLOWED_HOSTS", "").split(","), addresses=host not in LOOPBACK)


def run(app: ASGIApp, host: str, port: int, hosts: Hosts) -> None:
    """Serve until SIGTERM or Ctrl-C, as `uvicorn.run` does."""
    most = connections(CONNECTIONS)  # also how many asyncio accepts before it looks at any of them
    server = uvicorn.Server(
        uvicorn.Config(
            OnlyHosts(app, hosts), host=host, port=port, http=Bounded, ws="none", backlog=most,
            h11_max_incomplete_event_size=HEAD_BYTES, access_log=False, server_header=False,
        )
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(server))
    if not server.started:
        sys.exit(3)


async def _serve(server: uvicorn.Server) -> None:
    loop, silent_until = asyncio.get_running_loop(), 0.0

    def trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal silent_until
        error = context.get("exception")
        if error is None or not is_overload(error):
            loop.default_exception_handler(context)
            return
        closed = close_idle(server.server_state.connections, len(server.server_state.connections) // 2)
        if loop.time() >= silent_until:
            silent_until = loop.time() + _SILENCE
            log.warning("no connection can be accepted (%s): %d idle ones were closed", error, closed)

    loop.set_exception_handler(trouble)
    await server.serve()
