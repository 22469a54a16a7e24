"""One HTTP request of a smoke step to a service on this machine."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from orchestrator.contracts import Undecodable, decode_json, encode_json

_MOST_BYTES = 10_000_000
_LONGEST = 10.0


class HttpResponse(StrEnum):
    """Why there is no response."""

    REFUSED = "the connection was refused"
    SILENT = "no response came"


def request(
    port: int, method: str, spec: Mapping[str, Any], parent: str, seconds: float
) -> dict[str, Any] | HttpResponse:
    """The response as `capture` and `where` see it: `status`, `headers` (names in lower case), `json`, `text`."""
    headers = {"traceparent": parent, **{name: str(value) for name, value in spec.get("headers", {}).items()}}
    body = spec["body"].encode() if "body" in spec else None
    if "json" in spec:
        body = encode_json(spec["json"])
        headers.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=max(0.1, min(seconds, _LONGEST)))
    with contextlib.closing(connection):
        try:
            connection.request(method, spec.get("path", "/"), body, headers)
            response = connection.getresponse()
            raw = response.read(_MOST_BYTES)
        except ConnectionRefusedError:
            return HttpResponse.REFUSED
        except (OSError, http.client.HTTPException):
            return HttpResponse.SILENT
    return {
        "status": response.status,
        "headers": {name.lower(): value for name, value in response.getheaders()},
        "json": _json(raw),
        "text": raw.decode("utf-8", "replace"),
    }


def _json(raw: bytes) -> Any:
    try:
        return decode_json(raw)
    except Undecodable:
        return None
