"""Events made up from a JSON Schema: plausible, and the same for the same chance.

What comes out need not be valid: of keywords that exclude (`not`, `oneOf`, conditions that depend on each other) only
the shape is followed. Whoever asks holds it to the contract and asks again.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil, floor
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import orjson
import rstr

from orchestrator.config.budget import Budget, TooMuch
from orchestrator.contracts.evolution.flat import flattened
from orchestrator.contracts.evolution.schema_facts import matches
from orchestrator.contracts.sources import SchemaSource, files_of

WORDS = (
    *("amber", "anchor", "autumn", "bridge", "candle", "canyon", "cedar", "cloud", "copper", "coral"),
    *("crystal", "delta", "ember", "falcon", "forest", "garden", "glacier", "harbor", "hazel", "island"),
    *("ivory", "jasmine", "lagoon", "lantern", "maple", "meadow", "meteor", "mosaic", "nectar", "opal"),
    *("orchid", "pebble", "pepper", "quartz", "raven", "river", "saffron", "silver", "summit", "timber"),
    *("tulip", "velvet", "willow", "winter", "zephyr"),
)

#: Beyond it only what has to be there is made, and beyond the second one nothing.
_DEEP, _TOO_DEEP = 6, 60
#: Without an upper bound a number stays below so much more than its lower one, text and arrays below so much longer.
_SPAN, _LONGER, _MORE = 1_000, 24, 3
_OPTIONAL = 0.6
_MOST_STEPS = 1_000_000


class CannotFake(ValueError):
    """A part of the schema of which no value can be made up."""


def budget() -> Budget:
    """For one event, and all attempts at it. A step is a value, a part of a schema, a word or a part of a pattern."""
    return Budget(_MOST_STEPS, "an event would be too large, or it would take too long to make one up")


class _Patterns(rstr.Rstr):
    """`xeger` within a budget: repetitions within each other multiply."""

    def __init__(self, chance: Random, budget: Budget) -> None:
        super().__init__(chance)
        self._budget = budget

    def _handle_state(self, state: Any) -> Any:
        opcode, value = state
        # A range becomes a list of its characters.
        self._budget.spend(1 + (value[1] - value[0]) // 50 if opcode.name == "RANGE" else 1)
        return super()._handle_state(state)


class Fake:
    """Values of one schema. `today` is the moment around which times are made up, in UTC."""

    def __init__(
        self, schema: Any, path: Path, chance: Random, today: datetime, source: SchemaSource | None = None
    ) -> None:
        """`path` is the schema's file, from which its references lead to files of `source`."""
        self._schema, self._path, self._chance, self._today = schema, path, chance, today
        self._source = files_of(path.parent) if source is None else source
        self._files: dict[Path, Any] = {path: schema}
        self._budget = budget()

    def value(self, within: Budget | None = None) -> Any:
        """One more value, made `within` a budget (by default a new one). Raises `CannotFake`."""
        self._budget = budget() if within is None else within
        try:
            return self._value(self._schema, self._path, 0)
        except TooMuch as error:
            raise CannotFake(str(error)) from None

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def moment(self) -> datetime:
        """Some time in the last 30 days."""
        return self._today - timedelta(milliseconds=self._chance.randrange(30 * 86_400_000))

    def _value(self, schema: Any, path: Path, depth: int) -> Any:
        if schema is False or depth > _TOO_DEEP:
            raise CannotFake("the schema allows no value here" if schema is False else "the schema refers to itself")
        flat, path = flattened(schema, path, self._look_up, self._chance, self._budget)
        if "const" in flat:
            return flat["const"]
        if "enum" in flat:
            return self._chance.choice(flat["enum"] or [None])
        kind = self._kind(flat)
        if kind == "object":
            return self._object(flat, path, depth)
        if kind == "array":
            return self._array(flat, path, depth)
        if kind == "string":
            return self._string(flat)
        if kind in ("integer", "number"):
            return self._number(flat, whole=kind == "integer")
        return self._chance.random() < 0.5 if kind == "boolean" else None

    def _look_up(self, reference: str, path: Path) -> tuple[Any, Path]:
        """What a `$ref` in the file `path` refers to, and the file that has it."""
        file, _, pointer = reference.partition("#")
        target = (path.parent / unquote(file)) if file else path
        if target not in self._files:
            try:
                self._files[target] = orjson.loads(self._source.read(target))
            except (OSError, ValueError) as error:
                raise CannotFake(f"`$ref: {reference}` leads to no file beside it") from error
        found = self._files[target]
        try:
            for step in unquote(pointer).split("/")[1:]:
                found = found[step.replace("~1", "/").replace("~0", "~")]
        except (KeyError, TypeError) as error:
            raise CannotFake(f"`$ref: {reference}` leads nowhere") from error
        if pointer and not pointer.startswith("/"):
            raise CannotFake(f"`$ref: {reference}`: events are made up from references by path only")
        return found, target

    def _kind(self, schema: Mapping[str, Any]) -> str:
        said = schema.get("type")
        if isinstance(said, str):
            return said
        if said:
            kinds = [kind for kind in said if kind != "null"]
            return str(self._chance.choice(kinds) if kinds and self._chance.random() < 0.9 else said[-1])
        for kind, keywords in _HINTS.items():
            if keywords & schema.keys():
                return kind
        return "string"

    def _object(self, schema: Mapping[str, Any], path: Path, depth: int) -> dict[str, Any]:
        known: Mapping[str, Any] = schema.get("properties", {})
        names = dict.fromkeys(schema.get("required", ()))
        for name in known:
            if name not in names and depth < _DEEP and self._chance.random() < _OPTIONAL:
                names[name] = None
        for name in list(names):
            names |= dict.fromkeys(schema.get("dependentRequired", {}).get(name, ()))
        while len(names) < schema.get("minProperties", 0):
            self._budget.spend()
            names[f"{self._chance.choice(WORDS)}{len(names)}"] = None
        return {name: self._value(_member(schema, known, name), path, depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], path: Path, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        least = max(schema.get("minItems", 0), len(first))
        least = max(least, 1) if depth < _DEEP else least
        most = min(schema.get("maxItems", least + _MORE), least + _MORE) if depth < _DEEP else least
        count = self._chance.randint(min(least, most), most)
        items = [self._value(schema, path, depth + 1) for schema in first[:count]]
        if "contains" in schema:
            items.append(self._value(schema["contains"], path, depth + 1))
        for _ in range(100):
            if len(items) >= count or schema.get("items") is False:
                break
            item = self._value(schema.get("items", True), path, depth + 1)
            if not schema.get("uniqueItems") or item not in items:
                items.append(item)
        return items

    def _string(self, schema: Mapping[str, Any]) -> str:
        made = _FORMATS.get(schema.get("format", ""))
        if made is not None:
            return made(self)
        least = schema.get("minLength", 0)
        if "pattern" in schema:
            return self._matching(schema["pattern"], least, schema.get("maxLength", 1_000))
        most = schema.get("maxLength", least + _LONGER)
        words = [self._chance.choice(WORDS)]
        length = len(words[0])
        while length < least or (least and self._chance.random() < 0.3):
            self._budget.spend()
            words.append(self._chance.choice(WORDS))
            length += 1 + len(words[-1])
        text = " ".join(words)[:most]
        return text if not text.endswith(" ") else f"{text[:-1]}s"

    def _matching(self, pattern: str, least: int, most: int) -> str:
        """A text of that pattern; of that length, too, if one comes up: `*` and `+` may stand for up to 100."""
        text, patterns = "", _Patterns(self._chance, self._budget)
        try:
            for _ in range(300):
                self._budget.spend(len(pattern) // 10)  # it is parsed each time
                text = str(patterns.xeger(pattern))
                if least <= len(text) <= most:
                    break
        except TooMuch:
            raise
        except (re.error, ValueError, KeyError, RecursionError, OverflowError) as error:
            raise CannotFake(f"no text for the pattern {pattern!r}: {error}") from error
        return text

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> int | float:
        low, high = _bounds(schema)
        step = schema.get("multipleOf", 1 if whole else None)
        if step is not None:
            unit = Decimal(str(step))
            first, last = ceil(Decimal(str(low)) / unit), floor(Decimal(str(high)) / unit)
            product = unit * self._chance.randint(first, max(first, last))
            return int(product) if product == int(product) else float(product)
        rounded = round(self._chance.uniform(low, high), 2)
        return rounded if low < rounded < high else self._chance.uniform(low, high)


def _member(schema: Mapping[str, Any], known: Mapping[str, Any], name: str) -> Any:
    if name in known:
        return known[name]
    for pattern, member in schema.get("patternProperties", {}).items():
        if matches(pattern, name):
            return member
    return schema.get("additionalProperties", True)


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    """The least and the largest number, both allowed."""
    tiny = 1 if schema.get("type") == "integer" else 0.01
    lows = [
        schema[k] + (tiny if k == "exclusiveMinimum" else 0) for k in ("minimum", "exclusiveMinimum") if k in schema
    ]
    highs = [
        schema[k] - (tiny if k == "exclusiveMaximum" else 0) for k in ("maximum", "exclusiveMaximum") if k in schema
    ]
    high = min(highs, default=None)
    low = max(lows, default=0 if high is None or high >= 0 else high - _SPAN)
    high = low + _SPAN if high is None else min(high, low + _SPAN)
    if low > high:  # a range that is narrower than our steps
        low = schema.get("exclusiveMinimum", schema.get("minimum", high))
        high = schema.get("exclusiveMaximum", schema.get("maximum", low))
    return low, high


_HINTS = {
    "object": {"properties", "required", "additionalProperties", "patternProperties", "minProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _host(fake: Fake) -> str:
    return f"{fake._chance.choice(WORDS)}.example"


def _bytes(fake: Fake, count: int) -> list[int]:
    return [fake._chance.randrange(1, 255) for _ in range(count)]


_FORMATS: Mapping[str, Callable[[Fake], str]] = {
    "uuid": Fake.uuid,
    "date-time": lambda fake: _stamp(fake.moment()),
    "date": lambda fake: fake.moment().date().isoformat(),
    "time": lambda fake: _stamp(fake.moment()).partition("T")[2],
    "duration": lambda fake: f"PT{fake._chance.randint(1, 600)}S",
    "email": lambda fake: f"{fake._chance.choice(WORDS)}@{_host(fake)}",
    "idn-email": lambda fake: f"{fake._chance.choice(WORDS)}@{_host(fake)}",
    "hostname": _host,
    "idn-hostname": _host,
    "uri": lambda fake: f"https://{_host(fake)}/{fake._chance.choice(WORDS)}",
    "uri-reference": lambda fake: f"/{fake._chance.choice(WORDS)}",
    "iri": lambda fake: f"https://{_host(fake)}/{fake._chance.choice(WORDS)}",
    "ipv4": lambda fake: ".".join(map(str, _bytes(fake, 4))),
    "ipv6": lambda fake: ":".join(f"{fake._chance.randrange(1, 65_536):x}" for _ in range(8)),
    "json-pointer": lambda fake: f"/{fake._chance.choice(WORDS)}",
    "regex": lambda fake: fake._chance.choice(WORDS),
}
