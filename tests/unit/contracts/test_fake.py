"""Events made up from schemas: valid, the same for the same seed, and a clear word where that cannot be."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestrator.contracts.fake import CannotFake, Fake
from orchestrator.contracts.load import compile_schema

ROOT = Path(__file__).parents[3]
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
OBJECT: dict[str, Any] = {"type": "object", "required": ["a"]}

#: Schemas of which every value that is made up is valid.
ALWAYS: dict[str, Any] = {
    "anything": True,
    "nothing said": {},
    "const": {"const": {"a": [1]}},
    "enum": {"enum": [1, "two", None]},
    "types": {"type": ["integer", "null"]},
    "integer": {"type": "integer", "minimum": -5, "exclusiveMaximum": -3},
    "number": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.005},
    "negative": {"type": "number", "maximum": -7},
    "multiple": {"type": "number", "multipleOf": 0.05, "minimum": 1, "maximum": 2},
    "even": {"type": "integer", "multipleOf": 2, "minimum": 3, "maximum": 9},
    "text": {"type": "string", "minLength": 30, "maxLength": 31},
    "short": {"type": "string", "maxLength": 2},
    "pattern": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$", "maxLength": 9},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    "unique": {"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    "tuple": {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    "contains": {"type": "array", "items": {"type": "integer"}, "contains": {"const": 4}},
    "undeclared member": {**OBJECT, "additionalProperties": {"type": "integer"}},
    "pattern member": {**OBJECT, "patternProperties": {"^a": {"const": 9}}, "additionalProperties": False},
    "number of members": {"type": "object", "minProperties": 3},
    "dependent": {**OBJECT, "properties": {"a": {}, "b": {"const": 2}}, "dependentRequired": {"a": ["b"]}},
    "all of": {
        "allOf": [{"required": ["a"]}, {"properties": {"a": {"minimum": 3}}}],
        "properties": {"a": {"maximum": 3}},
    },
    "any of": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    "one of": {"oneOf": [{"required": ["x"], "properties": {"x": {"const": 1}}}, {"const": {"x": 2}}]},
    "if": {
        "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer"}},
        "required": ["kind", "n"],
        "if": {"properties": {"kind": {"const": "a"}}},
        "then": {"properties": {"n": {"maximum": 0}}},
        "else": {"properties": {"kind": {"const": "b"}, "n": {"minimum": 1}}},
    },
    "references": {
        "$ref": "#/$defs/x~1y",
        "$defs": {"x/y": {"type": "array", "items": {"$ref": "#/$defs/z"}}, "z": {"const": 3}},
    },
    "a tree": {
        "type": "object",
        "properties": {"v": {"type": "integer"}, "more": {"type": "array", "items": {"$ref": "#"}}},
    },
    "another file": {"properties": {"part": {"$ref": "part.json#/$defs/inner"}}, "required": ["part"]},
    **{
        f"format {name}": {"type": "string", "format": name}
        for name in (
            "uuid", "date-time", "date", "time", "duration", "email", "hostname", "uri", "uri-reference", "iri", "ipv4",
            "ipv6", "json-pointer", "regex", "idn-email", "idn-hostname",
        )
    },
}  # fmt: skip


def fake(schema: Any, path: Path, seed: int) -> Fake:
    return Fake(schema, path, Random(seed), TODAY)


@pytest.mark.parametrize("name", ALWAYS)
def test_what_is_made_up_is_valid_and_repeats(name: str, tmp_path: Path) -> None:
    path, schema = tmp_path / "schema.json", ALWAYS[name]
    path.write_text(json.dumps(schema))
    inner = {"type": "object", "required": ["up"], "properties": {"up": {"$ref": "#/$defs/leaf"}}}
    (tmp_path / "part.json").write_text(json.dumps({"$defs": {"inner": inner, "leaf": {"const": "leaf"}}}))
    validator = compile_schema(path)
    first, again = fake(schema, path, 7), fake(schema, path, 7)
    for _ in range(60):
        value = first.value()
        assert validator.is_valid(value), (value, [e.message for e in validator.iter_errors(value)])
        assert json.dumps(again.value()) == json.dumps(value)


@pytest.mark.parametrize("path", sorted((ROOT / "schemas").glob("*.json")), ids=lambda path: path.name)
def test_the_examples_contracts(path: Path) -> None:
    validator, made = compile_schema(path), fake(json.loads(path.read_text()), path, 1)
    values = [made.value() for _ in range(50)]
    assert all(map(validator.is_valid, values)) and len({value["eventId"] for value in values}) == 50


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (False, "allows no value"),
        ({"required": ["a"], "properties": {"a": False}}, "allows no value"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "#anchor"}, "by path only"),
        ({"$ref": "other.json"}, "no file"),
        ({"type": "string", "pattern": r"^\p{L}+$"}, "pattern"),
        ({"required": ["me"], "properties": {"me": {"$ref": "#"}}}, "itself"),
    ],
)
def test_what_cannot_be_made_up_is_said(schema: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(CannotFake, match=said):
        fake(schema, tmp_path / "s.json", 1).value()
