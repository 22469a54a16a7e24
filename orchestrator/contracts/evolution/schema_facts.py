"""What a conjunction of schemas lets through: its parts, the types and the values that are left, and its bounds.

A *conjunction* is a tuple of schemas that a value keeps all at once; () lets every value through. Answers err to the
side of more: a value that keeps the conjunction is never left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import jsonschema_rs
import orjson

from orchestrator.config.drafts import OFFLINE

#: `number` is told apart into whole numbers and others.
TYPES = frozenset(("null", "boolean", "object", "array", "string", "integer", "fraction"))
_OF_TYPE = {"number": frozenset(("integer", "fraction"))}
#: Keywords that `listed_values` judges.
_LISTING = frozenset(("enum", "const"))
_ONLY_FOR = {"boolean": (False, True), "null": (None,)}

Conjunction = tuple[Any, ...]


class Bound(NamedTuple):
    """A number that a value is not beyond; `open`: nor equal to."""

    value: Fraction
    open: bool


class SchemaReader:
    """Schemas of one resolved document: follows the references into its `$defs`."""

    def __init__(self, document: Any) -> None:
        self.defs: Mapping[str, Any] = document.get("$defs", {}) if isinstance(document, dict) else {}

    def target(self, reference: str) -> Any:
        return self.defs[reference.removeprefix("#/$defs/")]

    def flat(self, schemas: Iterable[Any]) -> Conjunction:
        """The same conjunction without `$ref` and `allOf` at its top, and without `true`."""
        found: list[Any] = []
        seen: set[int] = set()
        stack = list(schemas)[::-1]
        while stack:
            schema = stack.pop()
            if schema is True or schema == {} or id(schema) in seen:
                continue
            seen.add(id(schema))
            if isinstance(schema, dict) and ("$ref" in schema or "allOf" in schema):
                stack += schema.get("allOf", [])[::-1]
                stack += [self.target(schema["$ref"])] if "$ref" in schema else []
                rest = {word: value for word, value in schema.items() if word not in ("$ref", "allOf", "$defs")}
                found += [rest] if rest else []
            else:
                found.append(schema)
        return tuple(found)

    def validator(self, schemas: Iterable[Any]) -> jsonschema_rs.Validator:
        """Of the whole conjunction."""
        # An `allOf` without schemas is no JSON Schema.
        whole = {"allOf": [*schemas, True], "$defs": dict(self.defs)}
        return jsonschema_rs.Draft202012Validator(whole, validate_formats=True, **OFFLINE)


def types(flat: Conjunction) -> frozenset[str]:
    """The types that a value of a flat conjunction can have."""
    left = TYPES
    for schema in flat:
        if schema is False:
            return frozenset()
        if "type" in schema:
            left &= named_types(schema["type"])
    listed = listed_values(flat)
    return left if listed is None else left & frozenset(map(type_of, listed))


def named_types(word: Any) -> frozenset[str]:
    words = [word] if isinstance(word, str) else word
    return frozenset().union(*(_OF_TYPE.get(name, frozenset((name,))) for name in words))


def type_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, (int, float)):
        return "integer" if value == math.floor(value) else "fraction"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def listed_values(flat: Conjunction) -> list[Any] | None:
    """The values that `enum` and `const` leave, None when neither limits them."""
    lists = [values for schema in flat for values in _lists(schema)]
    if len(lists) < 2:
        return lists[0] if lists else None
    first, *others = ({canonical(value): value for value in values} for values in lists)
    return [value for key, value in first.items() if all(key in other for other in others)]


def listed(schema: Any) -> int:
    """How many values one schema lists."""
    return sum(map(len, _lists(schema)))


def _lists(schema: Any) -> Iterator[list[Any]]:
    if isinstance(schema, dict):
        if "enum" in schema:
            yield schema["enum"]
        if "const" in schema:
            yield [schema["const"]]


def canonical(value: Any) -> bytes:
    """JSON Schema takes 1 and 1.0 for the same."""
    return orjson.dumps(_whole(value), option=orjson.OPT_SORT_KEYS)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value


def few_values(flat: Conjunction, reading: SchemaReader) -> list[Any] | None:
    """All values of the conjunction where they can be counted: by `enum`, `const`, or the type alone."""
    listed = listed_values(flat)
    left = types(flat)
    if listed is None and left <= _ONLY_FOR.keys():
        listed = [value for kind in sorted(left) for value in _ONLY_FOR[kind]]
    if listed is None:
        return None
    if all(isinstance(schema, dict) and schema.keys() <= _LISTING for schema in flat):
        return listed
    valid = reading.validator(flat).is_valid
    return [value for value in listed if valid(value)]


def lower(flat: Conjunction, whole: bool) -> Bound | None:
    """The largest of all lower bounds; with `whole` the smallest whole number that is left."""
    found = [
        bound
        for schema in flat
        for bound in (_bound(schema, "minimum", False), _bound(schema, "exclusiveMinimum", True))
        if bound is not None
    ]
    best = max(found, key=lambda bound: (bound.value, bound.open), default=None)
    if best is None or not whole:
        return best
    return Bound(Fraction(math.floor(best.value) + 1 if best.open else math.ceil(best.value)), False)


def upper(flat: Conjunction, whole: bool) -> Bound | None:
    """The smallest of all upper bounds; with `whole` the largest whole number that is left."""
    found = [
        bound
        for schema in flat
        for bound in (_bound(schema, "maximum", False), _bound(schema, "exclusiveMaximum", True))
        if bound is not None
    ]
    best = min(found, key=lambda bound: (bound.value, not bound.open), default=None)
    if best is None or not whole:
        return best
    return Bound(Fraction(math.ceil(best.value) - 1 if best.open else math.floor(best.value)), False)


def _bound(schema: Any, word: str, is_open: bool) -> Bound | None:
    return Bound(exactly(schema[word]), is_open) if word in schema else None


def exactly(number: float) -> Fraction:
    """The number as it is written."""
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def at_least(flat: Conjunction, word: str) -> int:
    """The largest of `minLength`, `minItems` or `minProperties`; 0 when none is given."""
    return max((int(schema[word]) for schema in flat if word in schema), default=0)


def at_most(flat: Conjunction, word: str) -> float:
    """The smallest of `maxLength`, `maxItems` or `maxProperties`; infinite when none is given."""
    return min((int(schema[word]) for schema in flat if word in schema), default=math.inf)


def required(flat: Conjunction) -> frozenset[str]:
    return frozenset(name for schema in flat for name in schema.get("required", ()))


def member(flat: Conjunction, name: str) -> Conjunction | None:
    """What holds for the member `name`, None where there can be none."""
    found: list[Any] = []
    for schema in flat:
        found += own_member(schema, name)
    return None if any(schema is False for schema in found) else tuple(found)


def own_member(schema: Mapping[str, Any], name: str) -> list[Any]:
    """What one schema says about its member `name`; [] when nothing."""
    found = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    found += [inner for pattern, inner in schema.get("patternProperties", {}).items() if matches(pattern, name)]
    if not found and "additionalProperties" in schema:
        found.append(schema["additionalProperties"])
    return found


def matches(pattern: str, text: str) -> bool:
    return _pattern(pattern).is_valid(text)


@lru_cache(maxsize=64)
def _pattern(pattern: str) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator({"type": "string", "pattern": pattern})


def item(flat: Conjunction, index: int) -> Conjunction | None:
    """What holds for the item at `index`, None where there can be none."""
    found: list[Any] = []
    for schema in flat:
        prefix = schema.get("prefixItems", [])
        if index < len(prefix):
            found.append(prefix[index])
        elif "items" in schema:
            found.append(schema["items"])
    return None if index >= at_most(flat, "maxItems") or any(s is False for s in found) else tuple(found)
