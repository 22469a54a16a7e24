"""A schema with everything it refers to as one document, which means the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from orchestrator.contracts.load import compile_schema
from orchestrator.contracts.resolve import Unresolvable, resolved

FILES: dict[str, Any] = {
    "common.json": {
        "$id": "https://example.com/common",
        "$defs": {
            "money": {"type": "number", "minimum": 0},
            "id": {"$anchor": "id", "type": "string", "minLength": 1},
        },
    },
    "parts/line.json": {
        "type": "object",
        "required": ["price"],
        "properties": {"price": {"$ref": "../common.json#/$defs/money"}, "inner": {"$ref": "#"}},
    },
    "order.json": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "total": {"$ref": "common.json#/$defs/money", "maximum": 10},
            "orderId": {"$ref": "https://example.com/common#id"},
            "lines": {"type": "array", "items": {"$ref": "parts/line.json"}},
            "copy": {"$ref": "#/$defs/text"},
        },
        "$defs": {"text": {"const": {"$ref": "is a value here"}}},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, schema in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(schema))
    return tmp_path


def test_references_are_replaced_by_what_they_lead_to(folder: Path) -> None:
    found = resolved(folder / "order.json")
    assert found["properties"]["total"] == {"type": "number", "minimum": 0, "maximum": 10}
    assert found["properties"]["orderId"] == {"type": "string", "minLength": 1}
    assert found["properties"]["copy"] == {"const": {"$ref": "is a value here"}}
    line = found["properties"]["lines"]["items"]
    assert line == {"$ref": "#/$defs/line"}
    assert found["$defs"]["line"]["properties"]["inner"] == line


@pytest.mark.parametrize(
    "value",
    [
        {"total": 5, "orderId": "a", "lines": [{"price": 1, "inner": {"price": 2}}]},
        {"total": 11},
        {"total": -1},
        {"orderId": ""},
        {"lines": [{"price": 1, "inner": {}}]},
        {"lines": [{"price": -1}]},
        {"copy": 1},
    ],
)
def test_it_means_the_same(folder: Path, value: Any) -> None:
    validator = jsonschema_rs.validator_for(resolved(folder / "order.json"))
    assert validator.is_valid(value) == compile_schema(folder / "order.json").is_valid(value)


def test_in_draft_7_nothing_stands_beside_a_reference(tmp_path: Path) -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"$ref": "#/definitions/t", "maxLength": 1}, "b": {"$ref": "#t"}},
        "definitions": {"t": {"$id": "#t", "type": "string"}},
    }
    (tmp_path / "s.json").write_text(json.dumps(schema))
    assert resolved(tmp_path / "s.json")["properties"] == {"a": {"type": "string"}, "b": {"type": "string"}}


@pytest.mark.parametrize("reference", ["gone.json", "#/$defs/x", "#x", "https://example.com/x", "common.json#/x/0"])
def test_a_reference_that_leads_nowhere_is_named(folder: Path, reference: str) -> None:
    (folder / "s.json").write_text(json.dumps({"$ref": reference}))
    with pytest.raises(Unresolvable, match=reference.replace("$", r"\$")):
        resolved(folder / "s.json")


def test_references_that_depend_on_who_asks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"properties": {"a": {"$dynamicRef": "#x"}}}))
    with pytest.raises(Unresolvable, match="use `\\$ref`"):
        resolved(tmp_path / "s.json")
