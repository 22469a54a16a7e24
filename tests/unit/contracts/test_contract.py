"""Violations: all of them, each at its place, in bounds, whatever the value is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contracts import Contract, Violation, decode_json
from orchestrator.contracts.codec import MAX_DEPTH
from orchestrator.contracts.contract import MAX_TEXT, MAX_VIOLATIONS
from orchestrator.contracts.load import compile_schema

SCHEMA = {
    "type": "object",
    "required": ["id", "amount"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "amount": {"type": "number", "exclusiveMinimum": 0},
        "at": {"type": "string", "format": "date-time"},
        "items": {
            "type": "array",
            "items": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}},
        },
        "a b": {"type": "integer"},
    },
}
GOOD = {"id": "8b1f7a52-0d7e-4c39-8d3a-6f1e2c5b9a70", "amount": 1}


def contract(tmp_path: Path, schema: Any) -> Contract:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    return Contract("orders.created", compile_schema(path), path)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"amount": "ten"}, "$.amount"),
        ({"amount": 0}, "$.amount"),
        ({"amount": True}, "$.amount"),
        ({"id": "not-a-uuid"}, "$.id"),
        ({"at": "2026-01-15"}, "$.at"),
        ({"at": "2026-02-30T00:00:00Z"}, "$.at"),
        ({"items": [{"sku": "a"}, {"sku": 1}]}, "$.items[1].sku"),
        ({"items": [{}]}, "$.items[0].sku"),
        ({"a b": 1.5}, '$["a b"]'),
    ],
)
def test_a_violation_names_its_place(tmp_path: Path, change: dict[str, Any], path: str) -> None:
    checked = contract(tmp_path, SCHEMA)
    assert not checked.is_valid({**GOOD, **change})
    assert [violation.path for violation in checked.violations({**GOOD, **change})] == [path]


def test_a_valid_value_has_none(tmp_path: Path) -> None:
    checked = contract(tmp_path, SCHEMA)
    value = {**GOOD, "at": "2026-01-15T10:30:00+02:00", "more": "is allowed"}
    assert checked.is_valid(value)
    assert checked.violations(value) == ()


def test_all_violations_are_told_at_once(tmp_path: Path) -> None:
    found = contract(tmp_path, SCHEMA).violations({"id": 5, "items": [{}, {"sku": None}]})
    assert {violation.path for violation in found} == {"$.id", "$.amount", "$.items[0].sku", "$.items[1].sku"}
    assert Violation("$.amount", "is required") in found


def test_surplus_members_are_named_one_by_one(tmp_path: Path) -> None:
    closed = {"properties": {"a": {}}, "additionalProperties": False}
    assert contract(tmp_path, closed).violations({"a": 1, "b": 1, "c d": 1}) == (
        Violation("$.b", "is not allowed here"),
        Violation('$["c d"]', "is not allowed here"),
    )


def test_a_topic_without_a_schema_takes_everything() -> None:
    for value in (None, 1, "text", [{}], {"a": {}}):
        assert Contract("any").is_valid(value)
        assert Contract("any").violations(value) == ()


def test_a_report_is_bounded(tmp_path: Path) -> None:
    strings = contract(tmp_path, {"items": {"type": "string"}})
    found = strings.violations(list(range(1000)))
    assert len(found) == MAX_VIOLATIONS + 1
    assert found[-1] == Violation("$", f"and {1000 - MAX_VIOLATIONS} more")


def test_a_message_is_bounded_and_keeps_the_rule(tmp_path: Path) -> None:
    (found,) = contract(tmp_path, {"properties": {"a": {"type": "number"}}}).violations({"a": "x" * 100_000})
    assert len(found.message) <= MAX_TEXT
    assert found.message.endswith('is not of type "number"')


def test_a_path_is_bounded(tmp_path: Path) -> None:
    closed = contract(tmp_path, {"additionalProperties": False})
    (found,) = closed.violations({"x" * 100_000: 1})
    assert len(found.path) <= MAX_TEXT


def test_900_kilobytes_of_wrong_items_take_no_time(tmp_path: Path) -> None:
    strings = contract(tmp_path, {"type": "object", "properties": {"items": {"items": {"type": "string"}}}})
    value = decode_json(b'{"items":[' + b"1," * 450_000 + b"1]}")
    started = time.perf_counter()
    found = strings.violations(value)
    assert time.perf_counter() - started < 2  # all of them would take seven seconds and 800 MB
    assert found[0].path == "$.items[0]"
    assert "only the first is listed" in found[-1].message


def test_the_deepest_document_is_validated_to_its_end(tmp_path: Path) -> None:
    checked = contract(tmp_path, {"type": ["array", "integer"], "items": {"$ref": "#"}})
    assert checked.is_valid(decode_json(b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH))
    (found,) = checked.violations(decode_json(b"[" * MAX_DEPTH + b'"x"' + b"]" * MAX_DEPTH))
    assert found.message.startswith('"x" is not of types')


def test_too_deep_a_python_value_is_a_violation(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(1000):
        value = [value]
    assert contract(tmp_path, {"type": "object"}).violations(value) == (Violation("$", "nested too deeply"),)


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, {"a": {1, 2}}, {1: 2}, b"bytes"])
def test_what_is_no_json_value_is_a_violation(tmp_path: Path, value: Any) -> None:
    checked = contract(tmp_path, {"type": "object", "properties": {"a": {"type": "string"}}, "minProperties": 2})
    assert not checked.is_valid(value)
    assert [violation.path for violation in checked.violations(value)] == ["$"]


def test_a_pattern_that_explodes_is_a_violation_not_a_hang(tmp_path: Path) -> None:
    started = time.perf_counter()
    assert contract(tmp_path, {"pattern": "^(a+)+(?!x)$"}).violations("a" * 5000 + "!")
    assert time.perf_counter() - started < 5


def test_a_schema_that_refers_to_itself_for_ever_does_not_hang(tmp_path: Path) -> None:
    loop = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    contract(tmp_path, loop).violations({"a": 1})
