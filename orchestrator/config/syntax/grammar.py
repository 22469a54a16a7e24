"""The grammars, `pipeline.schema.json` and `smoke.schema.json`, and ways to find the part that a value stands under.

The schemas use a small part of JSON Schema; what is read here is `$ref` (to `$defs`), `anyOf`, `properties`,
`additionalProperties`, `items`, `type`, `const` and `enum`. jsonschema-rs does the validation itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]


class Grammar:
    """One schema. `file` is its name in this package; `sections` hold what a file's author names."""

    def __init__(self, file: str, sections: tuple[str, ...]) -> None:
        self._file = file
        self.sections = sections
        self._root: Schema | None = None

    @property
    def root(self) -> Schema:
        """The whole schema, read when it is first needed."""
        if self._root is None:
            text = Path(__file__).with_name(self._file).read_text(encoding="utf-8")
            self._root = json.loads(text)
        return self._root

    def resolve(self, part: Schema) -> Schema:
        """`part` with what its `$ref` names; its own keywords (a description, a default) win."""
        while "$ref" in part:
            target: Any = self.root
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
            if "$ref" in target:
                part = {**part, "$ref": target["$ref"]}
        return part

    def branches(self, part: Schema) -> list[Schema]:
        """The alternatives that a value may be: those of `anyOf`, else the part itself."""
        resolved = self.resolve(part)
        return [self.resolve(branch) for branch in resolved.get("anyOf", [resolved])]

    def below(self, parts: Iterable[Schema], step: str | int) -> list[Schema]:
        """What the grammar says about the value at key or index `step`; nothing for an unknown key."""
        found: list[Schema] = []
        for part in parts:
            inner = part.get("items") if isinstance(step, int) else _property(part, step)
            if isinstance(inner, dict):
                found += self.branches(inner)
        return found

    def at(self, path: Iterable[str | int]) -> list[Schema]:
        """What the grammar says about the value at `path` of a document."""
        parts = self.branches(self.root)
        for step in path:
            parts = self.below(parts, step)
        return parts


PIPELINE = Grammar("pipeline.schema.json", ("topics", "events", "handlers"))
SMOKE = Grammar("smoke.schema.json", ("scenarios",))


def schema() -> Schema:
    """The whole grammar of the pipeline file."""
    return PIPELINE.root


#: Those of the pipeline file's grammar.
resolve, branches, below, at = PIPELINE.resolve, PIPELINE.branches, PIPELINE.below, PIPELINE.at


def _property(part: Schema, key: str) -> Any:
    return part.get("properties", {}).get(key, part.get("additionalProperties"))


def types(parts: Iterable[Schema]) -> set[str]:
    """The JSON types that a value may have."""
    found: set[str] = set()
    for part in parts:
        given = part.get("type", [])
        found.update([given] if isinstance(given, str) else given)
        values = part.get("enum", [part["const"]] if "const" in part else [])
        found.update("string" if isinstance(value, str) else "integer" for value in values)
    return found


@cache
def default(*path: str) -> Any:
    """The default that the grammar states for `path`; raises KeyError where it states none."""
    for part in at(path):
        if "default" in part:
            return part["default"]
    raise KeyError(path)
