"""From a value to the record that is produced: encoded, held to its contract, keyed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orjson import dumps

from orchestrator.config.model import Topic
from orchestrator.contracts.codec import Unencodable, decode_json, encode_json
from orchestrator.contracts.contract import Contract
from orchestrator.contracts.headers import WrongHeader, given
from orchestrator.errors import ContractError
from orchestrator.event import Emit
from orchestrator.records import EmitHeaders, Headers, Outgoing

_SCALARS = frozenset({str, int, float, bool, type(None)})


def outgoing(
    topic: Topic,
    contract: Contract,
    value: Any,
    key: str | bytes | None = None,
    headers: EmitHeaders | None = None,
) -> Outgoing:
    """The record for `value` on `topic`. Raises ContractError with every violation.

    What is validated is what a consumer will decode, not the Python value: a `Decimal` counts as the number
    it is written as. Unless `key` is given it is the value's member that the topic's `key` names: a string
    as UTF-8, an integer in decimal; anything else, or none, is a violation. A topic that names no key gets
    null keys. None is a tombstone: it needs a key and has no contract.
    """
    chosen, raw = encoded(topic, contract, value, key)
    return Outgoing(topic.kafka_name, chosen, raw, as_headers(topic, headers))


def encoded(topic: Topic, contract: Contract, value: Any, key: str | bytes | None) -> tuple[bytes | None, bytes | None]:
    """Key and value of the record, as `outgoing` makes it. Raises ContractError."""
    if value is None:
        if key is None:
            raise _broken(topic, [("$", "a tombstone (null) needs a key")])
        return _as_bytes(topic, key), None
    try:
        raw = encode_json(value)
    except Unencodable as error:
        raise _broken(topic, [(error.path, error.reason)]) from None
    if _reads_back(value) and contract.is_valid(value):
        plain = value
    else:
        plain = decode_json(raw)
        if not contract.is_valid(plain):
            raise _broken(topic, contract.violations(plain))
    return _key_of(topic, plain) if key is None else _as_bytes(topic, key), raw


def writer(topic: Topic, contract: Contract) -> Callable[[Emit], tuple[str, str | None, bytes] | None]:
    """The topic's name on the cluster, key and value for an emit that is plainly good; None: `encoded` says what it is.

    A value is validated as it is, not as what it was encoded to: a flat object of exactly JSON's types. That it is one
    the contract may have proved (`scalar_members`), else it is looked at. One function without calls of Python: nearly
    every output goes through it.
    """
    place, name, valid, members = topic.kafka_name, topic.key, contract.check, contract.members

    def write(emit: Emit) -> tuple[str, str | None, bytes] | None:
        value = emit.value
        if type(value) is not dict or emit.key is not None or emit.headers is not None:
            return None
        known = len(value) == members
        if not (known or _SCALARS.issuperset(map(type, value.values()))):
            return None
        try:
            if not valid(value):
                return None
            raw = dumps(value)
            if not known and b"null" in raw:  # see `encode_json`
                return None
            if name is None:
                return place, None, raw
            key = value[name]
        except Exception:  # noqa: BLE001 - values are the handler's objects: their methods may raise anything
            return None
        return (place, key, raw) if type(key) is str else None

    return write


def _reads_back(value: Any) -> bool:
    """Whether `value`, which could be encoded, is for sure what a consumer will decode: a flat object of JSON's types.

    Exact types: a subclass might be written as something else. Names were strings, or it could not be encoded.
    """
    return type(value) is dict and _SCALARS.issuperset(map(type, value.values()))


def _key_of(topic: Topic, value: Any) -> bytes | None:
    if topic.key is None:
        return None
    found = value.get(topic.key) if isinstance(value, dict) else None
    if isinstance(found, str):
        return found.encode()
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found).encode()
    raise _broken(topic, [(f"$.{topic.key}", "is the key: a string or an integer is required")])


def _as_bytes(topic: Topic, key: object) -> bytes:
    if isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise _broken(topic, [("$", f"the key is a {type(key).__name__}; expected a string, bytes or None")])
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise _broken(topic, [("$", "the key is not valid Unicode")]) from None


def as_headers(topic: Topic, headers: EmitHeaders | None) -> Headers:
    """The headers as pairs of name and bytes, without those under kpipe's names. Raises ContractError."""
    if headers is None:
        return ()
    try:
        return given(headers)
    except WrongHeader as wrong:
        raise ContractError(f"an event for {topic.name}: {wrong}", [("headers", str(wrong))]) from None


def _broken(topic: Topic, violations: Any) -> ContractError:
    listed = [(path, message) for path, message in violations]
    places = "; ".join(f"{path} {message}" for path, message in listed[:3])
    more = f"; and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ContractError(f"The value breaks the contract of {topic.name}: {places}{more}", listed)
