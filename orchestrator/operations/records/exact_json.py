"""JSON whose numbers stay as they were typed: 150.00 is sent as 150.00, and shown as it stands in Kafka."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import orjson

from orchestrator.contracts.codec import Undecodable, decode_json

#: A string, or what stands between strings and white space.
_WORD = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^" \t\r\n]++')
#: Where a space may be one between tokens: next to one of JSON's marks.
_LOOSE = ("{ ", "[ ", ", ", ": ", " }", " ]", " ,", " :")
#: A string, one of JSON's marks, or a number or word.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^"{}\[\],:]++')
#: What fits into 64 bits, signed or unsigned: the integers that `encode_json` writes as such.
_INTEGERS = range(-(2**63), 2**64)


def parse(raw: bytes) -> Any:
    """The value of a JSON document, with a `Decimal` for every number that would be written in another way otherwise.

    Raises Undecodable for everything that a worker could not read either.
    """
    value = decode_json(raw)
    if orjson.dumps(value) == raw.strip():
        return value  # it is sent as it was typed
    import json

    return json.loads(raw, parse_float=Decimal, parse_int=_integer)


def compact(raw: bytes) -> str | None:
    """A JSON document without the white space between its tokens, else untouched; None when it is none."""
    try:
        decode_json(raw)
    except Undecodable:
        return None
    text = raw.decode()
    return text if _is_tight(text) else "".join(_WORD.findall(text))


def plain(raw: bytes) -> str | None:
    """A JSON document that is compact and printable as it stands; None for every other, JSON or not.

    Most events are such documents, and this is much quicker than `compact` and `present.safe`.
    """
    try:
        decode_json(raw)
    except Undecodable:
        return None
    text = raw.decode()
    return text if _is_tight(text) else None


def _is_tight(text: str) -> bool:
    """Whether a document is printable and certainly without white space between its tokens."""
    if not text.isprintable():
        return False
    return " " not in text or not (text[0] == " " or text[-1] == " " or any(pair in text for pair in _LOOSE))


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
