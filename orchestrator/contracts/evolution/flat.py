"""A JSON Schema without its combining keywords: one of the ways to keep it, as one plain schema. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from orchestrator.config.budget import Budget
from orchestrator.contracts.evolution.schema_facts import canonical

#: What a reference in a file leads to, and the file that has it.
LookUp = Callable[[str, Path], tuple[Any, Path]]

_COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "not"})
_HIGHER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_LOWER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_DEEPEST = 50
#: So many members that are copied count as one step.
_MEMBERS = 10


def flattened(
    schema: Any, path: Path, look_up: LookUp, chance: Random, budget: Budget, depth: int = 0
) -> tuple[dict[str, Any], Path]:
    """`schema` of the file `path`, with references followed, `allOf` joined and one of each choice taken.

    Also the file from which references inside lead: that of the last reference that was followed. Raises `TooMuch`.
    """
    budget.spend()
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {}, path
    flat = {keyword: value for keyword, value in schema.items() if keyword not in _COMBINING}
    parts = [(part, path) for part in schema.get("allOf", ())]
    if "$ref" in schema:
        parts.append(look_up(schema["$ref"], path))
        path = parts[-1][1]
    for choice in ("anyOf", "oneOf"):
        if schema.get(choice):
            parts.append((chance.choice(schema[choice]), path))
    if "if" in schema:
        yes = chance.random() < 0.5
        parts += [(schema[k], path) for k in (("if", "then") if yes else ("else",)) if k in schema]
    for part, at in parts:
        flat = _joined(flat, flattened(part, at, look_up, chance, budget, depth + 1)[0], budget)
    return flat, path


def _joined(one: dict[str, Any], other: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """A schema that keeps both, as far as that can be told from the keywords by themselves."""
    joined = dict(one)
    for keyword, value in other.items():
        known = joined.get(keyword)
        if known is None:
            joined[keyword] = value
        elif keyword == "properties":
            budget.spend((len(known) + len(value)) // _MEMBERS)
            both = {name: {"allOf": [known[name], value[name]]} for name in known.keys() & value.keys()}
            joined[keyword] = {**known, **value, **both}
        elif keyword == "required":
            budget.spend((len(known) + len(value)) // _MEMBERS)
            joined[keyword] = list(dict.fromkeys([*known, *value]))
        elif keyword == "enum":
            budget.spend((len(known) + len(value)) // _MEMBERS)
            others = set(map(canonical, value))
            joined[keyword] = [member for member in known if canonical(member) in others]
        elif keyword == "type":
            joined[keyword] = [kind for kind in _kinds(known) if kind in _kinds(value)] or known
        elif keyword in _HIGHER or keyword in _LOWER:
            joined[keyword] = (max if keyword in _HIGHER else min)(known, value)
        else:
            joined[keyword] = value
    return joined


def _kinds(said: Any) -> list[str]:
    return [said] if isinstance(said, str) else list(said)
