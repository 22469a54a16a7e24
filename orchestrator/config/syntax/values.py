"""Nodes to plain JSON values. What a scalar is, its place in the grammar decides.

Plain scalars follow YAML 1.2's core schema in its JSON part: `true false null`, whole and decimal numbers. So `on`,
`no`, `010`, `1_000`, `12:30` and `2024-01-01` are text. An interpolated scalar is a number or a boolean only where
no text may stand.
"""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.config.syntax import grammar
from orchestrator.config.syntax.nodes import ListNode, Node, Scalar
from orchestrator.config.syntax.overlay import is_null

# At most 18 digits: what every consumer of the tree can hold in 64 bits.
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)(?=[.eE])(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def plain(node: Node, parts: list[grammar.Schema], of: grammar.Grammar = grammar.PIPELINE) -> Any:
    """`node` as dict, list, str, int, float, bool or None; `parts` is what the grammar
    `of` the document says about its place."""
    if isinstance(node, Scalar):
        return _scalar(node, parts)
    if isinstance(node, ListNode):
        return [plain(item, of.below(parts, index), of) for index, item in enumerate(node.items)]
    return {key: plain(entry.value, of.below(parts, key), of) for key, entry in node.entries.items()}


def _scalar(scalar: Scalar, parts: list[grammar.Schema]) -> Any:
    types = grammar.types(parts)
    if is_null(scalar):
        # `orders.created:` with nothing after it is a topic with every default, as in a compose file.
        return {} if "object" in types else None
    if any(part.get("x-kpipe-text") for part in parts):
        return scalar.text
    if scalar.interpolated:
        return scalar.text if "string" in types else _number(scalar.text, types)
    return _number(scalar.text, types) if scalar.plain else scalar.text


def _number(text: str, types: set[str]) -> Any:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        return int(number) if "integer" in types and number.is_integer() and abs(number) < 1e15 else number
    return text
