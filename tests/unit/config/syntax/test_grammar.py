"""The grammar is one JSON Schema: valid, complete, and of one mind with the code around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from orchestrator.config import units
from orchestrator.config.model import DedupPolicy, Handler, RetryPolicy
from orchestrator.config.syntax import grammar
from tests.support.config import VALID

HANDLER = ("handlers", "any")
DEFAULTS = ("defaults", "handler")


def parts(part: grammar.Schema, path: str = "") -> Iterator[tuple[str, grammar.Schema]]:
    """Every property of the schema with its path, `$ref` resolved."""
    for branch in grammar.branches(part):
        for name, inner in branch.get("properties", {}).items():
            yield f"{path}{name}", grammar.resolve(inner)
            yield from parts(inner, f"{path}{name}.")
        for key in ("additionalProperties", "items"):
            if isinstance(branch.get(key), dict):
                yield from parts(branch[key], f"{path}*.")


def properties(*path: str) -> dict[str, Any]:
    found: dict[str, Any] = grammar.at(path)[0]["properties"]
    return found


def test_it_is_a_json_schema_and_takes_a_valid_document() -> None:
    schema = dict(grammar.schema())
    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.Draft202012Validator(schema).validate(VALID)


def test_every_property_is_described() -> None:
    for path, part in parts(grammar.schema()):
        assert str(part.get("description", "")).endswith("."), path


def test_every_object_is_closed_or_says_what_else_it_takes() -> None:
    open_ones = ("handlers.*.breaker", "handlers.*.fuse", "defaults.handler.breaker", "defaults.handler.fuse")
    for path, part in parts(grammar.schema()):
        for branch in grammar.branches(part):
            if branch.get("type") == "object" and path not in open_ones:
                assert "additionalProperties" in branch, path


def test_whatever_handlers_have_by_default_they_can_say_themselves() -> None:
    own, defaults = properties(*HANDLER), properties(*DEFAULTS)
    assert all(own[name] == part for name, part in defaults.items())
    single = {
        "python",
        "exec",
        "http",
        "service",
        "consumes",
        "produces",
        "group",
        "port",
        "ready",
        "headers",
        "health",
    }
    assert own.keys() - defaults.keys() == single


def test_a_service_refuses_exactly_what_is_for_streams() -> None:
    refused = grammar.schema()["$defs"]["handler"]["then"]["properties"].keys()
    fits = {"python", "exec", "http", "service", "produces", "port", "ready", "replicas", "restart", "stop-timeout"}
    fits |= {"env", "inherit-env", "essential", "memory", "interpreter", "headers", "health"}
    assert properties(*HANDLER).keys() - refused == fits


def test_its_defaults_are_those_of_the_model() -> None:
    handler = Handler("h", "python", "m:f", "g")
    stated = {
        name: grammar.default(*DEFAULTS, name) for name in ("from", "replicas", "concurrency", "ordering", "restart")
    }
    assert tuple(stated.values()) == (
        handler.start_from,
        handler.replicas,
        handler.concurrency,
        handler.ordering,
        handler.restart,
    )
    assert units.seconds(grammar.default(*DEFAULTS, "timeout")) == handler.timeout
    assert units.seconds(grammar.default(*DEFAULTS, "stop-timeout")) == handler.stop_timeout
    retry = [grammar.default(*DEFAULTS, "retry", key) for key in ("attempts", "backoff", "max-backoff")]
    assert RetryPolicy(retry[0], *map(units.seconds, retry[1:])) == handler.retry
    dedup = [grammar.default(*DEFAULTS, "dedup", key) for key in ("by", "window")]
    assert DedupPolicy(dedup[0], units.seconds(dedup[1])) == handler.dedup


def test_a_default_that_is_not_stated_is_asked_for_in_vain() -> None:
    with pytest.raises(KeyError):
        grammar.default("defaults", "dlq", "partitions")


def test_defaults_are_valid_themselves() -> None:
    for path, part in parts(grammar.schema()):
        if "default" in part:
            whole = {**part, "$defs": grammar.schema()["$defs"]}
            assert jsonschema_rs.Draft202012Validator(whole).is_valid(part["default"]), path
