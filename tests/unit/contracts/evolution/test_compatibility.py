"""What a change of a contract breaks: the table of docs/contracts.md, and what cannot be seen from it."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contracts.evolution.compatibility import compare
from orchestrator.contracts.evolution.dialect import modern
from orchestrator.contracts.evolution.inclusion import Misfit, misfits
from orchestrator.contracts.evolution.schema_facts import SchemaReader
from orchestrator.contracts.unusable import impossible

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}


def thing(required: str = "", closed: bool = False, **members: Any) -> dict[str, Any]:
    more = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": members, "required": required.split(), **more}


def verdict(old: Any, new: Any) -> tuple[str, str]:
    """`ok`, `assumed` or `breaks`, backward and forward."""
    found = compare(old, new)
    words = [
        "breaks" if any(one.certain for one in way) else "assumed" if way else "ok"
        for way in (found.backward, found.forward)
    ]
    return words[0], words[1]


RULES: list[tuple[Any, Any, str, str]] = [
    (thing(a=TEXT), thing("a", a=TEXT), "breaks", "ok"),
    (thing("a", a=TEXT), thing(a=TEXT), "ok", "breaks"),
    (thing("a b", a=TEXT, b=WHOLE), thing("a", a=TEXT), "ok", "breaks"),
    (thing(a=TEXT), thing(a=TEXT, b=WHOLE), "assumed", "ok"),
    (thing(a=TEXT, b=WHOLE), thing(a=TEXT), "ok", "assumed"),
    (thing(a=TEXT, closed=True), thing(a=TEXT, b=WHOLE, closed=True), "ok", "breaks"),
    (thing(a=TEXT, b=WHOLE, closed=True), thing(a=TEXT, closed=True), "breaks", "ok"),
    (thing(a=TEXT), thing(a=TEXT, closed=True), "breaks", "ok"),
    (thing(a=WHOLE), thing(a={"type": "number"}), "ok", "breaks"),
    (thing(a={"type": ["string", "null"]}), thing(a=TEXT), "breaks", "ok"),
    (thing(a={"enum": ["x"]}), thing(a={"enum": ["x", "y"]}), "ok", "breaks"),
    (thing(a={"const": "x"}), thing(a={"const": "y"}), "breaks", "breaks"),
    (thing(a={"minimum": 0}), thing(a={"minimum": 1}), "breaks", "ok"),
    (thing(a={"type": "integer", "exclusiveMinimum": 0}), thing(a={"type": "integer", "minimum": 1}), "ok", "ok"),
    (thing(a={"maximum": 5}), thing(a={"exclusiveMaximum": 5}), "breaks", "ok"),
    (thing(a={"multipleOf": 0.1}), thing(a={"multipleOf": 0.01}), "ok", "breaks"),
    (thing(a={"type": "string", "maxLength": 5}), thing(a={"type": "string", "maxLength": 4}), "breaks", "ok"),
    (thing(a=TEXT), thing(a={"type": "string", "format": "uuid"}), "breaks", "ok"),
    (thing(a={"pattern": "^a"}), thing(a={"pattern": "^b"}), "breaks", "breaks"),
    ({"type": "array", "items": TEXT}, {"type": "array", "items": TEXT, "minItems": 1}, "breaks", "ok"),
    ({"type": "array", "items": TEXT}, {"type": "array", "items": WHOLE}, "breaks", "breaks"),
    ({"oneOf": [thing("k", k={"const": 1})]}, {"oneOf": [thing("k", k={"const": n}) for n in (1, 2)]}, "ok", "breaks"),
    ({"type": ["string", "null"]}, {"anyOf": [TEXT, {"type": "null"}]}, "ok", "ok"),
    (thing("a", a=TEXT), {"allOf": [thing(a=TEXT), {"required": ["a"]}]}, "ok", "ok"),
    (
        {"properties": {"a": {"title": "A", "description": "an a", "default": 1, "examples": [1]}}, "title": "T"},
        {"properties": {"a": True}},
        "ok",
        "ok",
    ),
    (thing(a=TEXT), None, "ok", "breaks"),
    ({"patternProperties": {"^x": WHOLE}}, {"patternProperties": {"^x": TEXT}}, "breaks", "breaks"),
    (thing(a=TEXT, closed=True), {"propertyNames": {"enum": ["a"]}}, "ok", "breaks"),
    ({"if": WHOLE, "then": {"minimum": 1}}, {"if": WHOLE, "then": {"minimum": 1}, "title": "x"}, "ok", "ok"),
    ({"dependentRequired": {"a": ["b"]}}, {"dependentRequired": {"a": ["b", "c"]}}, "breaks", "ok"),
]


@pytest.mark.parametrize(("old", "new", "backward", "forward"), RULES)
def test_the_rules(old: Any, new: Any, backward: str, forward: str) -> None:
    assert verdict(old, new) == (backward, forward)


def test_a_break_says_where_and_why() -> None:
    old = thing("lines", lines={"type": "array", "items": thing("price", price={"type": "number"})})
    new = thing("lines", lines={"type": "array", "items": thing("price tax", price=TEXT, tax=WHOLE)})
    assert compare(old, new).backward == (
        Misfit("$.lines[0].tax", "may be missing, and is required"),
        Misfit("$.lines[0].price", "may be number, and has to be string"),
    )


def test_what_may_only_be_assumed_is_a_break_when_nothing_is_taken_for_granted() -> None:
    found = compare(thing(a=TEXT), thing(a=TEXT, b=WHOLE))
    assert found.breaks("full") == ()
    assert [one.path for one in found.breaks("full", strict=True)] == ["$.b"]
    assert found.breaks("none", strict=True) == found.breaks("forward", strict=True) == ()


def tree(value: Any) -> Any:
    node = thing(value=value, children={"type": "array", "items": {"$ref": "#/$defs/node"}})
    return {"$ref": "#/$defs/node", "$defs": {"node": node}}


def test_a_schema_that_refers_to_itself() -> None:
    assert misfits(tree(WHOLE), tree({"type": "number"})) == ()
    assert [one.path for one in misfits(tree({"type": "number"}), tree(WHOLE))] == ["$.value", "$.children[0].value"]


def test_the_words_of_earlier_drafts() -> None:
    draft4 = {"minimum": 0, "exclusiveMinimum": True, "items": [TEXT], "additionalItems": False}
    assert modern(draft4) == {"exclusiveMinimum": 0, "prefixItems": [TEXT], "items": False}
    assert modern({"dependencies": {"a": ["b"], "c": TEXT}}) == {
        "dependentRequired": {"a": ["b"]},
        "dependentSchemas": {"c": TEXT},
    }


@pytest.mark.parametrize(
    ("schema", "is_so"),
    [
        (False, True),
        ({"type": "string", "enum": [1, 2]}, True),
        (thing("a", a=False), True),
        (thing("a", closed=True), True),
        ({"allOf": [TEXT, WHOLE]}, True),
        (thing("a", a=TEXT), False),
        (True, False),
    ],
)
def test_a_schema_that_no_value_can_keep(schema: Any, is_so: bool) -> None:
    reading = SchemaReader(schema)
    assert impossible(reading.flat((schema,)), reading) is is_so
