"""Schemas from the pipeline's files: read and compiled once, every mistake reported at once.

The process that loads a pipeline reads them (`with_schemas`); where it hands the pipeline on, they go along, so that
another process compiles what was checked and not what the files hold by then.

A `$ref` may name a file relative to the schema's own, or a `$id` that a schema in the same folder carries.
Nothing is ever fetched over the network: what a contract means must not depend on a server's mood.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from orchestrator.config.budget import Budget, TooMuch
from orchestrator.config.drafts import compile_offline
from orchestrator.config.model import Pipeline
from orchestrator.config.reading import NOT_SHOWN, Reach
from orchestrator.contracts.contract import Contract
from orchestrator.contracts.resolve import resolved, values
from orchestrator.contracts.scalars import scalar_members
from orchestrator.contracts.sources import Files, files_of
from orchestrator.errors import FindingsError
from orchestrator.records import Finding


def load_contracts(pipeline: Pipeline) -> Mapping[str, Contract]:
    """The contract of every topic, by the topic's name. Raises FindingsError with all that is wrong at once.

    A topic without a schema gets a contract that every JSON value keeps. Reads files only where `pipeline.schemas` is
    None.
    """
    if pipeline.schemas is None:
        compiled = _from_files(pipeline)
    else:
        compiled = {path: (_validator(schema), schema) for path, schema in pipeline.schemas.items()}
    members = {path: scalar_members(schema) for path, (_, schema) in compiled.items()}
    contracts = {}
    for name, topic in pipeline.topics.items():
        path = str(topic.schema)
        validator = compiled[path][0] if topic.schema else None
        contracts[name] = Contract(name, validator, topic.schema, members.get(path))
    return contracts


def with_schemas(pipeline: Pipeline) -> Pipeline:
    """The pipeline with its schemas as the files are now, each of which compiles; as it is if it has them already.

    Raises FindingsError with all that is wrong at once.
    """
    if pipeline.schemas is not None:
        return pipeline
    return replace(pipeline, schemas={path: schema for path, (_, schema) in _from_files(pipeline).items()})


def _from_files(pipeline: Pipeline) -> dict[str, tuple[jsonschema_rs.Validator, Any]]:
    """Each schema of the pipeline, compiled, by the text of `Topic.schema`. Raises FindingsError."""
    compiled: dict[str, tuple[jsonschema_rs.Validator, Any]] = {}
    findings: list[Finding] = []
    reach, within = Reach.of(pipeline.base, os.environ), values()
    for path in dict.fromkeys(t.schema for t in pipeline.topics.values() if t.schema):
        try:
            compiled[str(path)] = _compiled(pipeline.base / path, Files(reach), within)
        except FindingsError as error:
            findings.extend(error.findings)
    if findings:
        raise FindingsError(findings, hint="Correct the schema; `kpipe validate` checks all of them.")
    return compiled


def compile_schema(path: Path) -> jsonschema_rs.Validator:
    """The schema in `path`, ready to validate, `format` asserted. Raises FindingsError (one finding).

    The draft is the one that `$schema` names, else 2020-12. A format that cannot be checked is an error: left
    alone it would look like a rule and be none.
    """
    return _compiled(path, files_of(path.parent), values())[0]


def _compiled(path: Path, files: Files, within: Budget) -> tuple[jsonschema_rs.Validator, Any]:
    """The same, and the schema itself."""
    _read(path, files)  # first of all: what cannot be read is told with its line
    try:
        # Compiled without references to other files: jsonschema-rs 0.61 panics, now and then, on an anchor in a
        # file that is known by two addresses.
        schema = resolved(path, files, within)
        return _validator(schema), schema
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        reason = _explained(error) if files.quotable else f"not a JSON Schema ({NOT_SHOWN})"
        raise _finding(path, reason) from None


def _validator(schema: Any) -> jsonschema_rs.Validator:
    return compile_offline(schema, validate_formats=True, ignore_unknown_formats=False)


def _read(path: Path, files: Files) -> Any:
    try:
        raw = files.read(path)
    except OSError as error:
        raise _finding(path, f"cannot be read: {error.strerror or error}") from None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _finding(path, f"not JSON: {error.msg}", error.lineno, error.colno) from None


def _explained(error: Exception) -> str:
    """The library's message without its quotation of the whole schema, with the place inside the file."""
    if isinstance(error, TooMuch):
        return f"too large: {error}"
    if not isinstance(error, jsonschema_rs.ValidationError):
        return f"not a JSON Schema: {error}"
    place = "/".join(str(step) for step in error.instance_path)
    return f"not a JSON Schema: {error.message}" + (f" (at #/{place})" if place else "")


def _finding(path: Path, message: str, line: int = 0, column: int = 0) -> FindingsError:
    return FindingsError([Finding("error", "schema", str(path), line, column, message)])
