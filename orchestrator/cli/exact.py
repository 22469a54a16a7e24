"""JSON whose numbers stay as they were typed: 150.00 is sent as 150.00, and shown as it stands in Kafka."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_SPACE = re.compile(r'("(?:[^"\\]++|\\.)*+")|[ \t\r\n]++')
#: A string, one of JSON's marks, or a number or word.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^"{}\[\],:]++')
#: What fits into 64 bits, signed or unsigned: the integers that `encode_json` writes as such.
_INTEGERS = range(-(2**63), 2**64)


def parse(raw: bytes) -> Any:
    """The value of a JSON document, with a `Decimal` for every number that is no 64-bit integer.

    Raises Undecodable for everything that a worker could not read either.
    """
    import json

    from orchestrator.contracts import decode_json

    decode_json(raw)
    return json.loads(raw, parse_float=Decimal, parse_int=_integer)


def compact(raw: bytes) -> str | None:
    """A JSON document without the white space between its tokens, else untouched; None when it is none."""
    from orchestrator.contracts import Undecodable, decode_json

    try:
        decode_json(raw)
    except Undecodable:
        return None
    return _SPACE.sub(lambda found: found[1] or "", raw.decode())


def indented(compact_json: str) -> str:
    """What `compact` made, on lines of its own and indented by two for each level; no token is changed."""
    parts: list[str] = []
    depth = 0
    before = ""
    for token in _TOKEN.findall(compact_json):
        empty = before in ("{", "[") and token in ("}", "]")
        depth -= token in ("}", "]")
        if not empty and (before in ("{", "[", ",") or token in ("}", "]")):
            parts.append("\n" + "  " * depth)
        parts.append(": " if token == ":" else token)
        depth += token in ("{", "[")
        before = token
    return "".join(parts)


def _integer(text: str) -> int | Decimal:
    exact = Decimal(text)
    return int(exact) if exact.adjusted() < 20 and int(exact) in _INTEGERS else exact
