"""Requests and answers as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Response(NamedTuple):
    """A status code and a JSON object."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}


class Page(NamedTuple):
    """A status code and a text of that content type."""

    status: int
    text: str
    type: str
    headers: Mapping[str, str] = {}


class RequestRefused(Exception):
    """A request is not carried out; `answer` says why. `hint` is what the client can do about it.

    `findings` are what is wrong in the pipeline's files, in the shape of docs/json.md.
    """

    def __init__(
        self,
        status: int,
        error: str,
        hint: str = "",
        findings: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        more = {name: value for name, value in (("hint", hint), ("findings", list(findings))) if value}
        self.answer = Response(status, {"error": error, **more}, headers or {})


@dataclass(frozen=True)
class Request:
    """A request whose head has arrived. `path` and `query` are as they were sent, percent signs included."""

    method: str
    path: str
    query: str
    #: Lower-case names with their values, in their order.
    headers: Sequence[tuple[str, bytes]]
    #: The body's length in bytes: 0 without a body, None when it comes in chunks.
    length: int | None
    #: Reads the body, at most so many bytes. Raises `RequestRefused`: too long, too slow, or cut off.
    body: Callable[[int], Awaitable[bytes]]

    def header(self, name: str) -> str | None:
        """The first value of a header, read as Latin-1; `name` is in lower case."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)
