"""What the comparison of schemas calls compatible is compatible: no generated value of one breaks the other."""

from __future__ import annotations

from random import Random
from typing import Any

import jsonschema_rs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.contracts.evolution.inclusion import misfits

NAMES = ("a", "b", "c", "x-1")
PLAIN = (None, True, False, 0, 1, 2, 3, -1, 10, 1.5, 0.5, 2.5, "", "a", "ab", "abc", "b", "x-1")
SCALARS = st.sampled_from(PLAIN)


def _value(chance: Random, depth: int) -> Any:
    kind = chance.randrange(3 if depth else 1)
    if kind == 0:
        return chance.choice(PLAIN)
    if kind == 1:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {name: _value(chance, depth - 1) for name in chance.sample(NAMES, chance.randrange(len(NAMES) + 1))}


#: Values that the schemas below are about; the same in every run.
VALUES = [*PLAIN, *(_value(Random(number), 3) for number in range(1500))]


def _small(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> Any:
    """Schemas over few names and values, so that two of them have something to do with each other."""
    inner = schemas(depth - 1) if depth else st.sampled_from((True, {}, {"type": "string"}, {"type": "integer"}))
    kind = draw(st.sampled_from(("object", "object", "array", "number", "integer", "string", "any", "enum", "union")))
    if kind == "object":
        parts = {
            "type": st.just("object"),
            "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
            "additionalProperties": st.just(False) | inner,
            "patternProperties": st.dictionaries(st.sampled_from(("^x", "a|b")), inner, max_size=1),
            "minProperties": _small(0, 3),
            "maxProperties": _small(1, 4),
            "propertyNames": st.sampled_from(({"maxLength": 1}, {"enum": ["a", "b"]}, {"pattern": "^."})),
            "dependentRequired": st.just({"a": ["b"]}),
        }
    elif kind == "array":
        parts = {
            "type": st.just("array"),
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "minItems": _small(0, 2),
            "maxItems": _small(1, 3),
            "uniqueItems": st.booleans(),
            "contains": inner,
        }
    elif kind in ("number", "integer"):
        parts = {
            "type": st.just(kind),
            "minimum": _small(-1, 3),
            "exclusiveMinimum": _small(-1, 3),
            "maximum": _small(1, 10) | st.just(2.5),
            "multipleOf": st.sampled_from((1, 2, 0.5)),
        }
    elif kind == "string":
        parts = {
            "type": st.just("string"),
            "minLength": _small(0, 2),
            "maxLength": _small(1, 3),
            "pattern": st.sampled_from(("^a", "b$")),
        }
    elif kind == "enum":
        parts = {"enum": st.lists(SCALARS, min_size=1, max_size=4), "const": SCALARS}
    elif kind == "union":
        parts = {
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "if": inner,
            "then": inner,
            "type": st.lists(st.sampled_from(("string", "null", "object", "integer")), min_size=1, unique=True),
        }
    else:
        return draw(st.sampled_from((True, {}, {"type": ["string", "null"]})))
    chosen = draw(st.sets(st.sampled_from(sorted(parts)), min_size=1, max_size=4))
    if kind in ("object", "array", "number", "integer", "string") and draw(st.integers(0, 4)):
        chosen |= {"type"}
    return {word: draw(parts[word]) for word in sorted(chosen)}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two schemas; mostly the second is the first with a part changed."""
    old = draw(schemas())
    if draw(st.integers(0, 3)) == 0 or not isinstance(old, dict):
        return old, draw(schemas())
    other = draw(schemas())
    new = dict(old)
    for word in draw(st.sets(st.sampled_from(sorted(old)), max_size=2)) if old else ():
        new.pop(word)
    if isinstance(other, dict) and other and draw(st.booleans()):
        new |= {word: other[word] for word in draw(st.sets(st.sampled_from(sorted(other)), max_size=2))}
    return (old, new) if draw(st.booleans()) else (new, old)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(pair=pairs())
def test_what_fits_fits_for_every_value(pair: tuple[Any, Any]) -> None:
    old, new = pair
    assume(not misfits(old, new))
    keeps, fits = (jsonschema_rs.Draft202012Validator(schema).is_valid for schema in pair)
    for value in VALUES:
        assert not keeps(value) or fits(value), value


def closed(schema: Any) -> Any:
    """The same without members that it does not name: what an assumption takes for granted."""
    if not isinstance(schema, dict):
        return schema
    made = {
        word: {name: closed(inner) for name, inner in value.items()} if word == "properties" else value
        for word, value in schema.items()
    }
    if "items" in made:
        made["items"] = closed(made["items"])
    return {"additionalProperties": False, **made} if schema.get("type") == "object" else made


@st.composite
def records(draw: st.DrawFn, depth: int = 2) -> Any:
    """Schemas as people write them for events: named members, some required, open."""
    if depth == 0 or draw(st.booleans()):
        return {"type": draw(st.sampled_from(("string", "integer", "number", "boolean")))}
    if draw(st.integers(0, 3)) == 0:
        return {"type": "array", "items": draw(records(depth - 1))}
    members = draw(st.dictionaries(st.sampled_from(NAMES), records(depth - 1), max_size=3))
    required = draw(st.lists(st.sampled_from(sorted(members) or ["a"]), unique=True, max_size=2))
    return {"type": "object", "properties": members, "required": [name for name in required if name in members]}


@st.composite
def versions(draw: st.DrawFn) -> tuple[Any, Any]:
    """A schema, and the same with members added, taken away or required no more."""
    old = draw(records())
    if old["type"] != "object":
        return old, draw(records())
    added = draw(st.dictionaries(st.sampled_from(NAMES), records(1), max_size=2))
    members = {**added, **old["properties"]} if draw(st.booleans()) else {**old["properties"], **added}
    left_out = draw(st.sets(st.sampled_from(NAMES), max_size=1))
    kept = {name: inner for name, inner in members.items() if name not in left_out}
    return old, {"type": "object", "properties": kept, "required": [n for n in old["required"] if n in kept]}


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(pair=versions())
def test_what_is_only_assumed_holds_for_values_without_unnamed_members(pair: tuple[Any, Any]) -> None:
    old, new = pair
    assume(not any(one.certain for one in misfits(old, new)))
    keeps, fits = (jsonschema_rs.Draft202012Validator(schema).is_valid for schema in (closed(old), new))
    for value in VALUES:
        assert not keeps(value) or fits(value), value
