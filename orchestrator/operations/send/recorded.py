"""Records as `kpipe tail --json` prints them, to be sent again: key, value and headers (docs/json.md, "record")."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.contracts.headers import check_name
from orchestrator.errors import UsageError
from orchestrator.operations.send.input import Raw

if TYPE_CHECKING:
    from orchestrator.records import Headers


class Recorded(NamedTuple):
    """What is taken from such a line. `value` is a `Raw` for what came as `value_base64`."""

    key: bytes | None
    value: Any
    headers: Headers


def recorded(document: Any, place: str) -> Recorded:
    """The record that a JSON line is about. Raises UsageError, which names `place`, for what is none."""
    try:
        return Recorded(_key(document), _value(document), _headers(document["headers"]))
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        raise UsageError(
            f"{place} is not a record",
            "with --records every line has the key, value and headers that `kpipe tail --json` prints",
        ) from None


def _key(document: dict[str, Any]) -> bytes | None:
    if "key_base64" in document:
        return b64decode(document["key_base64"], validate=True)
    key = document["key"]
    return None if key is None else bytes(key.encode())


def _value(document: dict[str, Any]) -> Any:
    if "value_base64" in document:
        return Raw(b64decode(document["value_base64"], validate=True))
    return document["value"]


def _headers(pairs: list[Any]) -> Headers:
    return tuple((_name(name), _header(value)) for name, value in pairs)


def _name(said: Any) -> str:
    name = b64decode(said["base64"], validate=True) if isinstance(said, dict) else bytes(said.encode())
    return check_name(name.decode("utf-8", "surrogateescape"))


def _header(value: Any) -> bytes | None:
    if value is None:
        return None
    return b64decode(value["base64"], validate=True) if isinstance(value, dict) else bytes(value.encode())
