"""What kpipe and a handler outside its process say to each other, as JSON: docs/protocol.md.

A request holds the event's value byte for byte, so that no digit of a number is lost; only what some languages take for
the end of a line is written in another way.

A reply says what became of an event: `emit` with the events to publish, or `retry`, `reject` or `unavailable` with the
reason. What a reply says wrong is the event's outcome `output`; nothing of such a reply is sent.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal

import orjson

from orchestrator.contracts.headers import as_json
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Emit, Event, Letter

_FAILURES: tuple[Literal["retry", "reject", "unavailable"], ...] = ("retry", "reject", "unavailable")
_ERROR_TYPES = {"retry": "Retry", "reject": "Reject", "unavailable": "Unavailable"}
_REPLY = ("id", "emit", *_FAILURES, "after", "type", "stack")
_EMIT = ("topic", "value", "key", "keyBase64", "headers")
_PLAIN_REPLY, _PLAIN_EMIT = frozenset(("id", "emit")), frozenset(("topic", "value"))
#: The request for an event without headers whose key is text and whose value is JSON.
_PLAIN_REQUEST = (
    b'{"id":%d,"topic":%b,"partition":%d,"offset":%d,"timestamp":%d,"key":%b,"value":%b,"headers":[],"attempt":%d}\n'
)
_json = orjson.dumps

#: What ends a line for some readers though JSON allows it: between tokens CR and LF, in strings U+2028 and U+2029.
_SPACES = bytes.maketrans(b"\r\n", b"  ")
_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def request_line(event: Event, id: int) -> bytes:
    """The request for one event, with its newline."""
    _, partition, offset, timestamp, key, raw, headers = event._record
    if raw is not None and key is not None and event.value is not None and not headers and event.letter is None:
        try:
            said = _json(key.decode())
        except UnicodeDecodeError:
            pass
        else:  # the usual, in half the time
            line = (id, _json(event.topic), partition, offset, timestamp, said, one_line(raw), event.attempt)
            return _PLAIN_REQUEST % line
    head = {
        "id": id,
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "timestamp": event.timestamp,
        **_text("key", event.raw_key),
    }
    tail: dict[str, Any] = {"headers": as_json(event.headers)}
    tail["attempt"] = event.attempt
    if event.letter is not None:
        tail["letter"] = _letter(event.letter)
    value = b"null"
    if event.value is not None and event.raw is not None:
        value = one_line(event.raw)
    elif event.raw is not None:
        tail["valueBase64"] = base64.b64encode(event.raw).decode()
    return b'%b,"value":%b,%b\n' % (orjson.dumps(head)[:-1], value, orjson.dumps(tail)[1:])


def one_line(raw: bytes) -> bytes:
    """The same JSON document without anything that ends a line."""
    raw = raw.translate(_SPACES)
    if b"\xe2\x80" in raw:
        for separator, escaped in _SEPARATORS:
            raw = raw.replace(separator, escaped)
    return raw


def _text(name: str, data: bytes | None) -> dict[str, str | None]:
    """UTF-8 as text, anything else in Base64."""
    try:
        return {name: None if data is None else data.decode()}
    except UnicodeDecodeError:
        return {name: None, f"{name}Base64": base64.b64encode(data or b"").decode()}


def _letter(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "handler": letter.handler,
        "reason": letter.reason,
        "errorType": letter.error_type,
        "errorMessage": letter.error_message,
        "attempts": letter.attempts,
        "violations": [dict(each) for each in letter.violations],
        "fingerprint": letter.fingerprint,
        "redriveCount": letter.redrive_count,
    }


class _Wrong(ValueError):
    """What is wrong with a reply, in a sentence."""


def outcome_of(reply: Any) -> list[Emit] | Failed:
    """What a reply's document stands for."""
    emits = _plainly(reply)
    if emits is not None:
        return emits
    try:
        return _outcome(_object(reply, _REPLY, "the reply"))
    except _Wrong as e:
        return wrong(str(e))


def _plainly(reply: Any) -> list[Emit] | None:
    """The events of a reply that has topics and values only, as most have; None for every other."""
    if type(reply) is not dict or reply.keys() != _PLAIN_REPLY or type(reply["emit"]) is not list:
        return None
    emits = []
    for one in reply["emit"]:
        if type(one) is not dict or one.keys() != _PLAIN_EMIT or type(one["topic"]) is not str:
            return None
        emits.append(Emit(one["topic"], one["value"]))
    return emits


def emits_of(listed: Any) -> list[Emit] | Failed:
    """The events of an `emit` list."""
    try:
        return _emits(listed)
    except _Wrong as e:
        return wrong(str(e))


def wrong(what: str) -> Failed:
    """The outcome of an answer that can't be understood."""
    return Failed("output", what, "ProtocolError")


def _outcome(reply: Mapping[str, Any]) -> list[Emit] | Failed:
    said = [name for name in ("emit", *_FAILURES) if name in reply]
    if len(said) > 1:
        raise _Wrong(f"the reply has `{said[0]}` and `{said[1]}`; only one of them can be")
    if "after" in reply and said and said[0] not in ("retry", "unavailable"):
        raise _Wrong(f"`after` does not go with `{said[0]}`")
    if (not said or said[0] == "emit") and ("type" in reply or "stack" in reply):
        raise _Wrong("`type` and `stack` go with a failure only")
    if not said or said[0] == "emit":
        return _emits(reply.get("emit"))
    verdict = next(name for name in _FAILURES if name == said[0])
    why = reply[verdict]
    if not isinstance(why, str):
        raise _Wrong(f"`{verdict}` is {_kind(why)}; expected the reason as a string")
    error_type = _string(reply, "type") or _ERROR_TYPES[verdict]
    return Failed(verdict, why, error_type, stack=_string(reply, "stack"), after=_after(reply.get("after")))


def _string(reply: Mapping[str, Any], name: str) -> str:
    said = reply.get(name)
    if said is not None and not isinstance(said, str):
        raise _Wrong(f"`{name}` is {_kind(said)}; expected a string")
    return said or ""


def _after(said: Any) -> float | None:
    if said is None:
        return None
    if isinstance(said, bool) or not isinstance(said, int | float) or not isfinite(said) or said < 0:
        raise _Wrong(f"`after` is {said!r}; expected seconds, a number from 0")
    return float(said)


def _emits(listed: Any) -> list[Emit]:
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise _Wrong(f"`emit` is {_kind(listed)}; expected a list of events")
    return [_emit(one, f"`emit[{index}]`") for index, one in enumerate(listed)]


def _emit(said: Any, where: str) -> Emit:
    one = _object(said, _EMIT, where)
    for name in ("topic", "value"):
        if name not in one:
            raise _Wrong(f"{where} has no `{name}`")
    if not isinstance(one["topic"], str):
        raise _Wrong(f"{where}: `topic` is {_kind(one['topic'])}; expected a string")
    return Emit(one["topic"], one["value"], _key(one, where), _headers(one.get("headers"), where))


def _key(one: Mapping[str, Any], where: str) -> str | bytes | None:
    key, encoded = one.get("key"), one.get("keyBase64")
    if encoded is not None:
        if key is not None:
            raise _Wrong(f"{where} has `key` and `keyBase64`; only one of them can be")
        return _bytes(encoded, f"{where}: `keyBase64`")
    if key is not None and not isinstance(key, str):
        raise _Wrong(f"{where}: `key` is {_kind(key)}; expected a string")
    return key


def _headers(said: Any, where: str) -> Sequence[tuple[str, str | bytes | None]] | None:
    if said is None:
        return None
    pairs = list(said.items()) if isinstance(said, dict) else said
    if not isinstance(pairs, list):
        raise _Wrong(f"{where}: `headers` is {_kind(said)}; expected a list of [name, value]")
    return [_header(pair, where) for pair in pairs]


def _header(pair: Any, where: str) -> tuple[str, str | bytes | None]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise _Wrong(f"{where}: a header is {pair!r:.100}; expected [name, value]")
    name = _text_or_bytes(pair[0], f"{where}: the name of a header")
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return name, None if pair[1] is None else _text_or_bytes(pair[1], f"{where}: the header `{name}`")


def _text_or_bytes(said: Any, where: str) -> str | bytes:
    if isinstance(said, dict) and list(said) == ["base64"]:
        return _bytes(said["base64"], where)
    if not isinstance(said, str):
        raise _Wrong(f"{where} is {_kind(said)}; expected a string")
    return said


def _bytes(encoded: Any, where: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _Wrong(f"{where} is not Base64") from None


def _object(said: Any, known: Sequence[str], where: str) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise _Wrong(f"{where} is {_kind(said)}; expected an object")
    for name in said:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise _Wrong(
                f"{where} has `{name:.50}`, which means nothing" + (f"; did you mean `{near[0]}`?" * bool(near))
            )
    return said


def _kind(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds: list[tuple[type, str]] = [(dict, "an object"), (list, "a list"), (str, "a string")]
    return next((word for kind, word in kinds if isinstance(value, kind)), "a number")
