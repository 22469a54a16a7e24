"""The files that a pipeline names: schemas and examples exist, are JSON, and fit what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import orjson

from orchestrator.config.checks.facts import Facts
from orchestrator.config.handlers import dedup_of, layered
from orchestrator.config.nodes import Path

#: Keywords that can bring in properties from elsewhere: then a field that is not listed may still exist.
_OPEN = frozenset(("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"))

_UNREADABLE = object()


def check(facts: Facts) -> None:
    """Reads every schema and example once."""
    schemas: dict[str, Any] = {}
    for name, topic in facts.doc.section("topics").items():
        if "schema" in topic:
            path = ("topics", name, "schema")
            schemas[name] = _schema(facts, path, topic["schema"])
            _check_field(facts, schemas[name], ("topics", name, "key"), topic.get("key"), "key")
    for name, event in facts.doc.section("events").items():
        if "example" in event:
            _json(facts, ("events", name, "example"), event["example"])
    for name, _ in facts.streams:
        _check_dedup(facts, name, schemas)


def _json(facts: Facts, path: Path, name: str) -> Any:
    """The file's JSON, or `_UNREADABLE` with a finding."""
    shown = facts.shown(name)
    try:
        return orjson.loads((facts.base / name).read_bytes())
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        facts.doc.find("json", path, f"{shown} is not JSON: {error.msg.partition(':')[0]} ({where})")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        hint = "paths begin at the folder of the (first) pipeline file"
        facts.doc.find("missing-file", path, f"cannot read {shown}: {reason}", hint)
    return _UNREADABLE


def _schema(facts: Facts, path: Path, name: str) -> Any:
    """The file's JSON Schema, or None with a finding."""
    found = _json(facts, path, name)
    if found is _UNREADABLE:
        return None
    try:
        jsonschema_rs.meta.validate(found)
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"/{step}" for step in error.instance_path)
        message = f"{facts.shown(name)} is not a JSON Schema: {_clipped(error.message)}"
        facts.doc.find("schema", path, message, f"at #{place} of that file" if place else "")
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        facts.doc.find("schema", path, f"{facts.shown(name)} is not a JSON Schema: {_clipped(str(error))}")
    else:
        return found
    return None


def _clipped(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _check_field(facts: Facts, schema: Any, path: Path, field: str | None, what: str) -> None:
    """A warning when the schema lists its properties and `field` is none of them: most likely a misspelling."""
    if field is None or not isinstance(schema, Mapping) or not isinstance(schema.get("properties"), Mapping):
        return
    if field in schema["properties"] or not _OPEN.isdisjoint(schema):
        return
    message = f"the schema of `{path[1]}` has no property {facts.shown(field)}, its `{what}`"
    facts.doc.warn("unknown-field", path, message, facts.doc.suggestion(field, schema["properties"]))


def _check_dedup(facts: Facts, name: str, schemas: Mapping[str, Any]) -> None:
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
