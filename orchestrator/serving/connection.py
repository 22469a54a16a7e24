"""One client: requests in, answers out, each within its time."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from http import HTTPStatus

import h11

from orchestrator.serving.heads import Head, read_head, refusal
from orchestrator.serving.messages import Page, Request, RequestRefused, Response
from orchestrator.serving.overload import is_overload
from orchestrator.serving.site import Site

_CHUNK = 65_536
#: So much of what is sent in vain is read all the same, for so long: a connection that is closed on unread data
#: takes the answer along.
_MOST_DISCARDED = 16 * 1024 * 1024
_LINGER_SECONDS = 5.0


class ClientConnection:
    """`changed` is called when it becomes idle."""

    def __init__(self, client: socket.socket, site: Site, changed: Callable[[], None]) -> None:
        self._client = client
        self._site = site
        self._limits = site.limits
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=site.limits.head_bytes)
        self._changed = changed
        self._head_only = False
        #: The event loop's time since which the client has been waited for; None while its request is worked on.
        self.idle_since: float | None = self._loop.time()
        #: What failed that must not.
        self.bug: BaseException | None = None

    async def run(self) -> None:
        """Until the client, or its time, is over. A client that goes away or does not read is no error."""
        try:
            while await self._exchange():
                await self._next()
            await self._linger()
        except (OSError, TimeoutError):
            pass

    def close(self) -> None:
        self._client.close()

    async def _exchange(self) -> bool:
        """One request and its answer. Returns whether the client may send another one."""
        try:
            request = await self._request()
            if request is None:
                return False
            self.idle_since = None
            answer = await self._answer(request)
        except RequestRefused as refused:
            answer = refused.answer
        return await self._send(answer)

    async def _request(self) -> Request | None:
        """The next request; None when the client has none. Raises `RequestRefused`."""
        self._head_only = False
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                event = await self._event(self._limits.head_bytes)
        except TimeoutError:
            if not self._http.trailing_data[0]:
                return None
            raise RequestRefused(
                HTTPStatus.REQUEST_TIMEOUT, f"the head of the request took over {self._limits.head_seconds:g} s"
            ) from None
        except h11.RemoteProtocolError as error:
            raise refusal(error, self._limits) from error
        if not isinstance(event, h11.Request):
            return None
        self._head_only = event.method == b"HEAD"
        head = read_head(event, self._site.hosts, self._limits)
        if head.length == 0:
            self._http.next_event()  # the end of a message without a body
        return Request(*head, body=lambda most: self._body(head, most))

    async def _answer(self, request: Request) -> Response | Page:
        try:
            return await self._site.answer(request)
        except RequestRefused:
            raise
        except Exception as error:
            if is_overload(error):
                raise RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, f"overloaded: {error}") from error
            self.bug = error
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"unexpected: {type(error).__name__}"})

    async def _body(self, head: Head, most: int) -> bytes:
        too_long = RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {most} bytes")
        if head.length is not None and head.length > most:
            raise too_long
        if head.length == 0:
            return b""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
                while isinstance(event := await self._event(_CHUNK), h11.Data):
                    body += event.data
                    if len(body) > most:
                        raise too_long
        except TimeoutError:
            raise RequestRefused(
                HTTPStatus.REQUEST_TIMEOUT, f"the body of the request took over {self._limits.body_seconds:g} s"
            ) from None
        except (h11.RemoteProtocolError, OSError):
            raise RequestRefused(
                HTTPStatus.BAD_REQUEST, "the body ended early, or is not chunked as it should be"
            ) from None
        return bytes(body)

    async def _event(self, size: int) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """h11's next event, reading `size` bytes at a time."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._loop.sock_recv(self._client, size))
        return event

    async def _next(self) -> None:
        """Wait for the first byte of a further request. Raises TimeoutError."""
        self._http.start_next_cycle()
        if not self._http.trailing_data[0]:
            async with asyncio.timeout(self._limits.idle_seconds):
                data = await self._loop.sock_recv(self._client, self._limits.head_bytes)
            self._http.receive_data(data)

    async def _send(self, answer: Response | Page) -> bool:
        if isinstance(answer, Page):
            body, kind = answer.text.encode(), answer.type
        else:
            body, kind = json.dumps(answer.body).encode() + b"\n", "application/json"
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **answer.headers}
        if not self._limits.idle_seconds or self._http.their_state in (h11.SEND_BODY, h11.ERROR, h11.IDLE):
            headers["Connection"] = "close"  # or what is left of this request would be taken for the next one
        status = HTTPStatus(answer.status)
        head = h11.Response(status_code=status, headers=list(headers.items()), reason=status.phrase)
        content = h11.Data(data=b"" if self._head_only else body)
        self.idle_since = self._loop.time()  # now it is the client's turn, who has to read
        self._changed()
        await self._write(b"".join(self._http.send(event) or b"" for event in (head, content, h11.EndOfMessage())))
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(self._limits.answer_seconds):
            await self._loop.sock_sendall(self._client, data)

    async def _linger(self) -> None:
        self._client.shutdown(socket.SHUT_WR)
        left = _MOST_DISCARDED
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0 and (data := await self._loop.sock_recv(self._client, _CHUNK)):
                left -= len(data)
