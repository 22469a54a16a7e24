"""Schemas whose objects have nothing but known scalars: a valid one needs no second look before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

_TYPES = frozenset({"string", "number", "integer", "boolean"})
_DRAFTS = (
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)
#: NaN and the infinities are written as null. Whether a valid number is none of them is the validator's affair.
_NUMBERS_ARE_FINITE = not any(
    jsonschema_rs.validator_for({"type": "number"}).is_valid(float(number)) for number in ("nan", "inf", "-inf")
)


def scalar_members(schema: Any) -> int | None:
    """How many members `schema` requires, when each of them has to be a scalar and none may be null; else None.

    A valid object of just so many members has no other: every value in it was looked at by the validator, is of a type
    that JSON has, and none of them is written as null. Only the words at the top of the schema are read.
    """
    if not isinstance(schema, Mapping) or "$ref" in schema or not _NUMBERS_ARE_FINITE:
        return None
    if str(schema.get("$schema", _DRAFTS[-1])).rstrip("#") not in _DRAFTS:
        return None  # its words may mean anything
    required, properties = schema.get("required"), schema.get("properties")
    if not isinstance(required, list) or not required or not isinstance(properties, Mapping):
        return None
    return len(set(required)) if all(_is_scalar(properties.get(name)) for name in required) else None


def _is_scalar(schema: Any) -> bool:
    if not isinstance(schema, Mapping) or "$ref" in schema:  # in old drafts a `$ref` silences its neighbours
        return False
    types = schema.get("type")
    if types is not None:
        return bool(types) and _TYPES.issuperset([types] if isinstance(types, str) else types)
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    return isinstance(allowed, list) and all(isinstance(value, str | bool | int | float) for value in allowed)
