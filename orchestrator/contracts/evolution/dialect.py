"""Schemas of earlier drafts in the words of 2020-12, so that what compares two schemas knows one dialect.

What a draft means otherwise (`$ref` without its neighbours) is settled in `contracts/resolve.py`.
"""

from __future__ import annotations

from typing import Any

from orchestrator.contracts.resolve import MANY, NAMED, ONE

#: Keywords that say something about a schema and nothing about a value.
ANNOTATIONS = frozenset(
    [
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$schema",
        "$id",
        "$anchor",
        "$vocabulary",
        "$defs",
        "definitions",
    ]
)


def modern(schema: Any) -> Any:
    """A resolved schema in the words of draft 2020-12, without annotations; `$defs` stay at its top."""
    made = _modern(schema)
    if isinstance(schema, dict) and "$defs" in schema:
        made["$defs"] = {name: _modern(inner) for name, inner in schema["$defs"].items()}
    return made


def _modern(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for word, value in schema.items():
        if word in ANNOTATIONS:
            continue
        if word in MANY and isinstance(value, list):
            made[word] = [_modern(item) for item in value]
        elif word in NAMED and isinstance(value, dict):
            made[word] = {name: _modern(item) for name, item in value.items()}
        elif word in ONE:
            made[word] = _modern(value)
        else:
            made[word] = value
    _move_items(made)
    _move_bounds(made)
    _split_dependencies(made)
    return made


def _move_items(schema: dict[str, Any]) -> None:
    """Up to 2019-09 `items` could be a list, and `additionalItems` was about the rest."""
    rest = schema.pop("additionalItems", None)
    if isinstance(schema.get("items"), list):
        schema["prefixItems"] = schema.pop("items")
        if rest is not None:
            schema["items"] = rest


def _move_bounds(schema: dict[str, Any]) -> None:
    """In draft 4 `exclusiveMinimum: true` said how `minimum` is meant."""
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        flag = schema.get(word)
        if isinstance(flag, bool):
            del schema[word]
            if flag and bound in schema:
                schema[word] = schema.pop(bound)


def _split_dependencies(schema: dict[str, Any]) -> None:
    for name, needed in schema.pop("dependencies", {}).items():
        word = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
        schema.setdefault(word, {})[name] = needed
