"""Is a head, as h11 read it, one that kpipe answers? Pure: no socket, no clock."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import h11

from orchestrator.serving.hosts import VARIABLE, Hosts
from orchestrator.serving.limits import ListenerLimits
from orchestrator.serving.messages import RequestRefused

#: h11 quotes what it could not read; the client has it already.
_QUOTE = re.compile(r": b(?:ytearray\(b)?['\"].*", re.DOTALL)


class Head(NamedTuple):
    """`length`: of the body in bytes, 0 without one, None when it comes in chunks."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, bytes], ...]
    length: int | None


def read_head(request: h11.Request, hosts: Hosts | None, limits: ListenerLimits) -> Head:
    """The request's head. Raises `RequestRefused` for what is not answered, whatever it asks for."""
    headers = tuple((name.decode("ascii"), value) for name, value in request.headers)
    if not request.http_version.startswith(b"1."):
        raise RequestRefused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this listener speaks HTTP/1.1")
    # h11 bounds a head only while it is incomplete.
    if len(request.target) + sum(len(name) + len(value) for name, value in headers) > limits.head_bytes:
        raise _too_long(limits)
    if len(headers) > limits.headers:
        raise RequestRefused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the request has more than {limits.headers} headers"
        )
    path, query, authority = _target(request.target.decode("ascii"))
    by_name = dict(headers)
    # The authority of an absolute target counts, and not the header (RFC 9112, section 3.2.2).
    named = by_name["host"].decode("latin-1") if authority is None and "host" in by_name else authority
    if hosts is not None and named is not None and not hosts.allow(named):
        raise RequestRefused(
            HTTPStatus.MISDIRECTED_REQUEST, f"no host {named[:100]!r} is served here",
            f"where that is a name of this machine: {VARIABLE}=NAME",
        )  # fmt: skip
    if by_name.get("content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise RequestRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body has to be sent without a Content-Encoding")
    return Head(request.method.decode("ascii"), path, query, headers, _length(by_name))


def refusal(error: h11.RemoteProtocolError, limits: ListenerLimits) -> RequestRefused:
    """The answer to what h11 could not read as a head."""
    status = error.error_status_hint
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return _too_long(limits)
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return RequestRefused(status, "the only Transfer-Encoding that is understood is `chunked`")
    return RequestRefused(status, f"this is no HTTP request: {_QUOTE.sub('', str(error))}")


def _too_long(limits: ListenerLimits) -> RequestRefused:
    return RequestRefused(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head of the request is longer than {limits.head_bytes} bytes"
    )


def _target(target: str) -> tuple[str, str, str | None]:
    """Path, query, and the authority if the target has one."""
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return path, query, None
    try:
        parts = urlsplit(target)
    except ValueError:  # `http://[/`
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RequestRefused(
            HTTPStatus.BAD_REQUEST, "the target of the request is neither a path nor an http:// address"
        )
    return parts.path or "/", parts.query, parts.netloc


def _length(headers: dict[str, bytes]) -> int | None:
    if "transfer-encoding" not in headers:
        return int(headers.get("content-length", b"0"))  # h11 lets 20 digits pass, and nothing else
    if "content-length" in headers:
        # Where two programs disagree on which of them counts, one request hides another (RFC 9112, section 6.1).
        raise RequestRefused(HTTPStatus.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")
    return None
