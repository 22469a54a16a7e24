"""Drafts of JSON Schema: which there are, and that nothing is fetched for them."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from orchestrator.config.drafts import UnknownDraft, check_schema, compile_offline, is_known, patterns

NEWEST = "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "draft",
    [
        NEWEST,
        f"{NEWEST}#",
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema",
        "https://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/schema#",
    ],
)
def test_the_known_ones_are_those_that_the_library_has_built_in(draft: str) -> None:
    assert is_known(draft)
    jsonschema_rs.validator_for({"$schema": draft}, offline=True)


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://127.0.0.1:9/x"},
        {"$schema": "file:///etc/hostname"},
        {"$schema": ""},
        {"$schema": "json-schema.org/draft-07/schema"},
        {"$schema": "http://json-schema.org/draft-03/schema#"},
        {"properties": {"a": {"$schema": "http://127.0.0.1:9/x"}}},
        {"allOf": [{"if": {"$schema": "http://127.0.0.1:9/x"}}]},
        {"$defs": {"const": {"$schema": "http://127.0.0.1:9/x"}}},
        {"anything": {"$schema": "http://127.0.0.1:9/x"}},
    ],
)
def test_any_other_is_refused_wherever_it_stands(schema: Any) -> None:
    for refuse in (check_schema, compile_offline):
        with pytest.raises(UnknownDraft, match="is not known"):
            refuse(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"$schema": {"const": "http://127.0.0.1:9/x"}}},
        {"const": {"$schema": "http://127.0.0.1:9/x"}, "default": {"$schema": "x"}, "enum": [{"$schema": "x"}]},
        {"required": ["$schema"]},
        True,
    ],
)
def test_an_event_may_have_a_member_of_that_name(schema: Any) -> None:
    check_schema(schema)
    compile_offline(schema)


def test_a_reference_that_is_followed_is_not_fetched() -> None:
    with pytest.raises(ValueError, match="kpipe fetches no schemas"):
        compile_offline({"$ref": "http://127.0.0.1:9/x"})


def test_patterns_are_found_where_they_are_keywords() -> None:
    schema = {
        "pattern": "a",
        "patternProperties": {"b": {"items": {"pattern": "c"}}},
        "properties": {"pattern": {"type": "string"}},
        "const": {"pattern": "d"},
    }
    assert sorted(patterns(schema)) == ["a", "b", "c"]
