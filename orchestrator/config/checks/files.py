"""The files that a pipeline names: schemas and examples exist, are JSON, and fit what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import jsonschema_rs
import orjson

from orchestrator.config import drafts
from orchestrator.config.budget import Budget, TooMuch
from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.handlers import dedup_of, layered
from orchestrator.config.patterns import weight
from orchestrator.config.reading import MAX_JSON, NOT_SHOWN, Reach, ReadRefused
from orchestrator.config.syntax.nodes import Path

#: Keywords that can bring in properties from elsewhere: then a field that is not listed may still exist.
_OPEN = frozenset(("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"))

_UNREADABLE = object()
#: Bytes of all schemas and examples that a pipeline file names, and states of the schemas' regular expressions.
MAX_BYTES = 50_000_000
MAX_PATTERNS = 2_000_000


class _Files:
    """The schemas and examples of one pipeline file, within bounds that hold for all of them together."""

    def __init__(self, base: FilePath, reach: Reach) -> None:
        self._base = base
        self._reach = reach
        self._bytes = Budget(MAX_BYTES, f"all schemas and examples are larger than {MAX_BYTES // 1_000_000} MB")
        self._patterns = Budget(MAX_PATTERNS, "the regular expressions of all schemas are too large once compiled")

    def json(self, name: str) -> Any:
        """Raises OSError, or ValueError: not JSON, or TooMuch."""
        raw = self._reach.read(self._base / name, MAX_JSON)
        self._bytes.spend(len(raw))
        return orjson.loads(raw)

    def check_schema(self, schema: Any) -> None:
        """Raises ValueError for what is no JSON Schema; TooMuch for one that may not be compiled."""
        drafts.require_known_drafts(schema)
        for pattern in drafts.patterns(schema):
            self._patterns.spend(1 + weight(pattern))
        drafts.check_schema(schema)

    def is_own(self, name: str) -> bool:
        return self._reach.is_own(self._base / name)


def check(facts: PipelineFacts, reach: Reach) -> None:
    """Reads every schema and example once."""
    schemas: dict[str, Any] = {}
    checked: dict[str, Any] = {}
    files = _Files(facts.base, reach)
    for name, topic in facts.doc.section("topics").items():
        if "schema" in topic:
            path = ("topics", name, "schema")
            file = topic["schema"]
            schemas[name] = checked[file] if file in checked else _schema(facts, files, path, file)
            checked[file] = schemas[name]
            _check_field(facts, schemas[name], name, quotable=files.is_own(file))
    for name, event in facts.doc.section("events").items():
        if "example" in event:
            _json(facts, files, ("events", name, "example"), event["example"])
    for name, _ in facts.streams:
        _check_dedup(facts, name, schemas)


def _json(facts: PipelineFacts, files: _Files, path: Path, name: str) -> Any:
    """The file's JSON, or `_UNREADABLE` with a finding."""
    shown = facts.shown(name)
    try:
        return files.json(name)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        facts.doc.find("json", path, f"{shown} is not JSON: {error.msg.partition(':')[0]} ({where})")
    except TooMuch as error:
        facts.doc.find("too-large", path, f"{shown} is not read: {error}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        begins = "paths begin at the folder of the (first) pipeline file"
        hint = error.hint if isinstance(error, ReadRefused) else begins
        facts.doc.find("missing-file", path, f"cannot read {shown}: {reason}", hint)
    return _UNREADABLE


def _schema(facts: PipelineFacts, files: _Files, path: Path, name: str) -> Any:
    """The file's JSON Schema, or None with a finding."""
    found = _json(facts, files, path, name)
    if found is _UNREADABLE:
        return None
    try:
        files.check_schema(found)
    except TooMuch as error:
        facts.doc.find("too-large", path, f"{facts.shown(name)} is not checked: {error}")
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        reason, hint = _explained(error) if files.is_own(name) else ("", NOT_SHOWN)
        facts.doc.find("schema", path, f"{facts.shown(name)} is not a JSON Schema{reason}", hint)
    else:
        return found
    return None


def _explained(error: Exception) -> tuple[str, str]:
    """Reason and hint. jsonschema-rs's own text quotes the whole schema behind the message."""
    if not isinstance(error, jsonschema_rs.ValidationError):
        return f": {_clipped(str(error))}", ""
    place = "".join(f"/{step}" for step in error.instance_path)
    return f": {_clipped(error.message)}", f"at #{place} of that file" if place else ""


def _clipped(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _check_field(facts: PipelineFacts, schema: Any, topic: str, *, quotable: bool) -> None:
    """A warning when the schema lists its properties and the topic's `key` is none of them: a misspelling, probably."""
    field = facts.doc.get("topics", topic, "key")
    if field is None or not isinstance(schema, Mapping) or not isinstance(schema.get("properties"), Mapping):
        return
    if field in schema["properties"] or not _OPEN.isdisjoint(schema):
        return
    message = f"the schema of `{topic}` has no property {facts.shown(field)}, its `key`"
    hint = facts.doc.suggestion(field, schema["properties"]) if quotable else ""
    facts.doc.warn("unknown-field", ("topics", topic, "key"), message, hint)


def _check_dedup(facts: PipelineFacts, name: str, schemas: Mapping[str, Any]) -> None:
    own = facts.handlers[name]
    dedup = dedup_of(layered(facts.doc.tree, own))
    for topic in own.get("consumes", []):
        schema = schemas.get(topic)
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        if dedup is None or not isinstance(properties, Mapping) or dedup.by in properties:
            continue
        if _OPEN.isdisjoint(schema or {}):
            message = f"events of `{topic}` have no {facts.shown(dedup.by)}: `{name}` would not notice copies"
            hint = "name the field with the event's id in `dedup: {by: …}`, or say `dedup: off`"
            facts.doc.warn("unknown-field", ("handlers", name, "dedup", "by"), message, hint)
