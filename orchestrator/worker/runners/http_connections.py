"""The connections of an `http:` handler: one for each event that is under way, kept open between events.

Rules:
- A connection that nobody uses is closed after `IDLE_SECONDS`, and one whose answer did not come to its end at once.
- The other side may close a connection at any moment while it is idle, and a request can be on its way just then. Such
  a request ends before a byte of an answer comes, on a connection that has carried another one before (`unanswered`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import httpx

#: A host that takes no connection for so long is away (seconds).
CONNECT_SECONDS = 5.0
#: A connection that nobody uses is closed after so many seconds; closing it may take so many.
IDLE_SECONDS, CLOSE_SECONDS = 30.0, 1.0


class HandlerConnection:
    """A client with at most one connection, and what is seen of its current request."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        #: The connection that carried the last answer, as httpcore's stream.
        self._kept: Any = None
        self._waited = self._heard = False

    def begin(self) -> None:
        """Another request starts."""
        self._waited = self._heard = False

    def answered(self, response: httpx.Response) -> None:
        """The response is there, whole; its connection may carry the next request."""
        stream = response.extensions.get("network_stream")
        if stream is not None and stream is not self._kept:
            self._kept = stream
            # httpx tells of a broken connection, but not whether a part of a status line had come. Its streams are
            # plain objects with the interface `httpcore.AsyncNetworkStream`.
            stream.read = self._watched(stream.read)

    @property
    def unanswered(self) -> bool:
        """Whether the request went over a connection that had carried one before, and not a byte came back.

        False whenever that is not sure: on a fresh connection, and on one that could not be watched.
        """
        return self._waited and not self._heard

    def _watched(self, read: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
        async def watched(max_bytes: int, timeout: float | None = None) -> bytes:
            self._waited = True
            data = await read(max_bytes, timeout)
            self._heard = self._heard or bool(data)
            return data

        return watched


class Connections:
    """As many as there are events at once, with a client for each.

    One client with all the connections looks at each of them for every request (httpx 0.28): with a hundred that is
    most of what a request costs.
    """

    def __init__(self, url: httpx.URL) -> None:
        #: And since when nobody uses them, those first who have been free for longest.
        self._free: deque[tuple[float, HandlerConnection]] = deque()
        # A proxy from the environment knows no way back to this machine.
        self._trusts_env = not is_loopback(url)
        self._ssl: ssl.SSLContext | None = None

    def take(self) -> HandlerConnection:
        """One that nobody uses: the last that was given back, so that those that are not needed can go."""
        return self._free.pop()[1] if self._free else self._made()

    async def give_back(self, connection: HandlerConnection, *, whole: bool) -> None:
        """`whole`: its answer came to its end. Any other is closed: an exchange that is cancelled at the wrong moment
        takes its connection's place for ever (httpcore 1.0)."""
        now = time.monotonic()
        if whole:
            self._free.append((now, connection))
        else:
            await _close(connection)
        while self._free and self._free[0][0] < now - IDLE_SECONDS:
            await _close(self._free.popleft()[1])

    async def close(self) -> None:
        for _, connection in self._free:
            await _close(connection)

    def _made(self) -> HandlerConnection:
        # Reading the certificates that are trusted takes 15 ms.
        self._ssl = self._ssl or httpx.create_ssl_context(trust_env=self._trusts_env)
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS)
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        client = httpx.AsyncClient(verify=self._ssl, timeout=timeout, limits=limits, trust_env=self._trusts_env)
        return HandlerConnection(client)


async def _close(connection: HandlerConnection) -> None:
    """What cannot be closed in time is forgotten."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.client.aclose()


def is_loopback(url: httpx.URL) -> bool:
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost" or url.host.endswith(".localhost")
