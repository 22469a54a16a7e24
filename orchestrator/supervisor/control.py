"""The control socket: HTTP/1.1 on a Unix socket that only this user can open.

The requests are in docs/control-api.md. Written by hand because of what it needs not do: one request per connection,
parameters in the query and no body that matters, no keep-alive, no chunks, and nobody but this user on the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

_LONGEST_HEAD = 16_384
_PATIENCE = 10.0


class Answer(NamedTuple):
    """A status code and a JSON body."""

    code: int
    body: Mapping[str, Any]


class Page(NamedTuple):
    """A status code and a text of that content type."""

    code: int
    text: str
    type: str


#: The parameters of a request, each with its values in their order.
Query = Mapping[str, list[str]]
Routes = Mapping[tuple[str, str], Callable[[Query], Answer | Page | Awaitable[Answer]]]


class Refused(Exception):
    """A route's way to say no: 422 for what makes no sense, 409 for what cannot be done now.

    `findings` are what is wrong in the pipeline's files, in the shape of docs/json.md.
    """

    def __init__(self, code: int, error: str, hint: str = "", findings: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(error)
        body = {"error": error, "hint": hint}
        self.answer = Answer(code, {**body, "findings": list(findings)} if findings else body)


async def serve(path: Path, routes: Routes) -> asyncio.Server:
    """Answer at `path`, which must be free. Closing the server removes no file."""
    return await asyncio.start_unix_server(_talker(routes), sock=_listening(path), limit=_LONGEST_HEAD)


async def serve_port(port: int, routes: Routes) -> asyncio.Server:
    """Answer on a port of the loopback interface, which every user of the machine can reach; 0 takes a free one.

    Raises `OSError` when it is taken.
    """
    return await asyncio.start_server(_talker(routes), "127.0.0.1", port, limit=_LONGEST_HEAD)


def _talker(routes: Routes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that goes away or says nothing is no trouble of ours.
        with contextlib.suppress(OSError, TimeoutError):
            head = await asyncio.wait_for(_head(reader), _PATIENCE)
            writer.write(_response(await _answer(head, routes)))
            await asyncio.wait_for(writer.drain(), _PATIENCE)
        writer.close()

    return talk


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The request up to its body; nothing when it is none."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""


async def _answer(head: bytes, routes: Routes) -> Answer | Page:
    try:
        method, target, _version = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    except ValueError:
        return Answer(HTTPStatus.BAD_REQUEST, {"error": "this is no HTTP request"})
    path, _, query = target.partition("?")
    if (method, path) in routes:
        try:
            answer = routes[method, path](parse_qs(query, keep_blank_values=True))
            return await answer if isinstance(answer, Awaitable) else answer
        except Refused as refused:
            return refused.answer
    if any(path == known for _, known in routes):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} is not for {path}"})
    return Answer(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}"})


def _response(answer: Answer | Page) -> bytes:
    if isinstance(answer, Page):
        body, kind = answer.text.encode(), answer.type
    else:
        body, kind = json.dumps(answer.body).encode() + b"\n", "application/json"
    head = (
        f"HTTP/1.1 {answer.code} {HTTPStatus(answer.code).phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _listening(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is right from the first moment, not only after a chmod.
    before = os.umask(0o177)
    try:
        bound.bind(os.fspath(path))
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound
