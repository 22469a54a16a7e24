"""Contracts that no event can keep, and keys that no event can have: as far as that can be proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.config.budget import Budget, TooMuch, size
from orchestrator.config.patterns import weight
from orchestrator.contracts.evolution import schema_facts
from orchestrator.contracts.evolution.dialect import modern
from orchestrator.contracts.evolution.schema_facts import Conjunction, SchemaReader
from orchestrator.contracts.resolve import resolved
from orchestrator.contracts.sources import SchemaSource

_MOST_STEPS = 2_000_000


class Unusable:
    """Answers about the schemas of one project: each is read once, and all answers share a budget.

    What would take too long counts as possible.
    """

    def __init__(self, source: SchemaSource) -> None:
        self._source = source
        self._budget = Budget(_MOST_STEPS, "too many cases")
        self._readings: dict[Path, tuple[SchemaReader, Conjunction]] = {}
        self._impossible: dict[Path, bool] = {}

    def schema(self, path: Path) -> bool:
        """Whether no value can keep the schema in `path`. Raises OSError and ValueError as `resolved` does."""
        if path not in self._impossible:
            reading, flat = self._read(path)
            self._impossible[path] = self._affords(work(flat)) and impossible(flat, reading)
        return self._impossible[path]

    def key(self, path: Path, key: str) -> str:
        """Why no event that keeps the schema has a key that Kafka could be given under `key`; "" when there may be one.

        Raises as `schema` does.
        """
        reading, flat = self._read(path)
        return key_problem(flat, reading, key) if self._affords(len(flat) + matching(flat)) else ""

    def size(self, path: Path) -> int:
        """How many values the schema has, with all that it refers to."""
        reading, flat = self._read(path)
        return sum(map(size, flat)) + size(dict(reading.defs))

    def _read(self, path: Path) -> tuple[SchemaReader, Conjunction]:
        if path not in self._readings:
            schema = modern(resolved(path, self._source))
            reading = SchemaReader(schema)
            self._readings[path] = reading, reading.flat((body(schema),))
        return self._readings[path]

    def _affords(self, steps: int) -> bool:
        try:
            self._budget.spend(steps)
        except TooMuch:
            return False
        return True


def key_problem(flat: Conjunction, reading: SchemaReader, key: str) -> str:
    """As `Unusable.key`, for the flat conjunction of a schema."""
    if "object" not in schema_facts.types(flat):
        return "its events are no objects"
    have = schema_facts.member(flat, key)
    if have is None:
        return f"it allows no `{key}`"
    kinds = schema_facts.types(reading.flat(have))
    return "" if kinds & {"string", "integer"} else f"`{key}` is never text or a whole number"


def impossible(flat: Conjunction, reading: SchemaReader) -> bool:
    """Whether no value can keep a flat conjunction."""
    if not schema_facts.types(flat):
        return True
    if schema_facts.types(flat) == {"object"}:
        return any(_never(schema_facts.member(flat, name), reading) for name in schema_facts.required(flat))
    return schema_facts.listed_values(flat) is not None and not schema_facts.few_values(flat, reading)


def _never(member: Conjunction | None, reading: SchemaReader) -> bool:
    return member is None or not schema_facts.types(reading.flat(member))


def work(flat: Conjunction) -> int:
    """The steps of `impossible`: a step is a schema that is looked at, or ten values of an `enum`."""
    names = sum(len(schema.get("required", ())) for schema in flat if isinstance(schema, dict))
    listed = sum(schema_facts.listed(schema) for schema in flat)
    return 1 + len(flat) + listed // 10 + names * (len(flat) + matching(flat)) // 10


def matching(flat: Conjunction) -> int:
    """The steps of matching one name with the patterns of schemas: they may have to be compiled for it."""
    named = (schema.get("patternProperties", ()) for schema in flat if isinstance(schema, dict))
    return sum(1 + weight(pattern) // 10 for patterns in named for pattern in patterns)


def body(schema: Any) -> Any:
    """A resolved schema without its `$defs`."""
    return {word: value for word, value in schema.items() if word != "$defs"} if isinstance(schema, dict) else schema
