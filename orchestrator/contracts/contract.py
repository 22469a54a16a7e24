"""One topic's contract: is a value valid, and if not, everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs

from orchestrator.contracts.paths import Step, json_path

#: Bounds of a report: it travels in a dead letter's headers, whose record may grow by 64 KB in all.
MAX_VIOLATIONS = 20
MAX_TEXT = 200
#: Listing costs about 16 microseconds and a kilobyte for each wrong node, all of them at once. Above this
#: many nodes only the first violation is looked for, so that one 900 KB event cannot take seconds and a
#: gigabyte.
MAX_LISTED_NODES = 10_000


class Violation(NamedTuple):
    """What is wrong and where, such as `Violation("$.amount", '"ten" is not of type "number"')`."""

    path: str
    message: str


class Contract:
    """The JSON Schema of one topic, compiled. Without a schema every value is valid.

    Values are what `decode_json` returns; others (a `Decimal`, a tuple) go through `encode_json` and back
    first. The depth that `decode_json` bounds is what keeps a schema that refers to itself from exhausting
    the process's stack. Safe to use from several threads.
    """

    __slots__ = ("_validator", "check", "members", "schema", "topic")

    def __init__(
        self,
        topic: str,
        validator: jsonschema_rs.Validator | None = None,
        schema: Path | None = None,
        members: int | None = None,
    ) -> None:
        """`members` is what `scalar_members` says of the schema."""
        self.topic = topic
        self.schema = schema
        self.members = members
        self._validator = validator
        #: `is_valid` without a call of Python; it may raise ValueError for a value that no JSON document has.
        self.check: Callable[[Any], bool] = _anything if validator is None else validator.is_valid

    def is_valid(self, value: Any) -> bool:
        """Whether `value` keeps the contract: the fast path, a few microseconds. Never raises."""
        if self._validator is None:
            return True
        try:
            return self._validator.is_valid(value)
        except ValueError:  # a value that no JSON document has, such as a lone surrogate
            return False

    def violations(self, value: Any) -> tuple[Violation, ...]:
        """Everything wrong with `value`, () when valid. Above `MAX_VIOLATIONS` a last one counts the rest."""
        if self._validator is None or self.is_valid(value):
            return ()
        try:
            if _larger_than(value, MAX_LISTED_NODES):
                return _first(self._validator, value)
            return _bounded(dict.fromkeys(_listed(self._validator.iter_errors(value))))
        except ValueError as error:
            return (Violation("$", shorten(_unreadable(error))),)

    def __repr__(self) -> str:
        return f"Contract({self.topic!r}, schema={str(self.schema) if self.schema else None!r})"


def _anything(value: Any) -> bool:
    return True


def _first(validator: jsonschema_rs.Validator, value: Any) -> tuple[Violation, ...]:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        found = tuple(islice(_listed([error]), MAX_VIOLATIONS))
        return (
            *found,
            Violation("$", "there may be more: only the first is listed for a document of this size"),
        )
    return ()


def _bounded(found: dict[Violation, None]) -> tuple[Violation, ...]:
    kept = tuple(islice(found, MAX_VIOLATIONS))
    rest = len(found) - len(kept)
    return (*kept, Violation("$", f"and {rest} more")) if rest else kept


def _listed(errors: Any) -> Iterator[Violation]:
    for error in errors:
        for steps, message in _placed(error):
            yield Violation(shorten(json_path(steps)), shorten(message))


def _placed(error: jsonschema_rs.ValidationError) -> Iterator[tuple[list[Step], str]]:
    """A missing or surplus member is reported at its own place, not at the object around it."""
    steps, kind = list(error.instance_path), error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        yield [*steps, kind.property], "is required"
    elif isinstance(
        kind,
        jsonschema_rs.ValidationErrorKind.AdditionalProperties
        | jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
    ):
        for name in kind.unexpected:
            yield [*steps, name], "is not allowed here"
    else:
        yield steps, error.message


def shorten(text: str) -> str:
    """At most `MAX_TEXT` characters. The middle goes: messages start with the value and end with the rule."""
    if len(text) <= MAX_TEXT:
        return text
    half = (MAX_TEXT - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _unreadable(error: ValueError) -> str:
    if "Recursion limit" in str(error):
        return "nested too deeply"
    return f"not a JSON value: {error}"


def _larger_than(value: Any, limit: int) -> bool:
    """Whether `value` has more nodes than `limit`; looks at no more of them than that."""
    stack, seen = [value], 0
    while stack:
        node = stack.pop()
        children = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
        seen += 1 + len(children)
        if seen > limit:
            return True
        stack.extend(child for child in children if isinstance(child, (dict, list, tuple)))
    return False
