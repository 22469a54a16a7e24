"""The quick way to a record: it makes what the other way makes, or nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.contracts import Contract, load_contracts
from orchestrator.contracts.outgoing import encoded, writer
from orchestrator.contracts.scalars import scalar_members
from orchestrator.errors import ContractError
from orchestrator.event import Emit

DRAFT_7 = "http://json-schema.org/draft-07/schema"
TOPIC = Topic("orders", "test.orders", 3, 1, {}, key="a")


class Text(str):
    pass


class Colour(Enum):
    RED = "red"
    NONE = None
    MANY = (1, 2)


class Spelled(str, Enum):  # noqa: UP042 - older than StrEnum, and another thing to orjson
    A = "a"


words = st.sampled_from(
    [
        {},
        {"type": "string"},
        {"type": ["string", "number"]},
        {"type": "number"},
        {"type": "integer", "minimum": 0},
        {"type": "boolean"},
        {"const": "red"},
        {"enum": ["red", 1, 2.5, True]},
        {"enum": ["red", None]},
        {"type": ["string", "null"]},
        {"type": "array"},
        {"not": {"type": "string"}},
        {"$ref": "#/$defs/text"},
    ]
)
schemas = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.sampled_from("abc"), words, max_size=3)},
    optional={"required": st.lists(st.sampled_from("abc"), max_size=3, unique=True), "type": st.just("object")},
)
odd = [
    "red", "", "a\ud800", 0, 1, -5, 2.5, 2**70, True, None, float("nan"), float("inf"), Decimal(1), Decimal("NaN"),
    Text("red"), Colour.RED, Colour.NONE, Colour.MANY, Spelled.A, UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC), [],
    [float("nan")], {}, {"a": Text("x")}, (1,), orjson.Fragment(b"{"), object(), b"red",
]  # fmt: skip
values = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(odd), max_size=4) | st.sampled_from(
    [None, 5, [], "a"]
)


@given(schemas, st.lists(values, min_size=1, max_size=30), st.sampled_from(["a", None]))
def test_it_makes_what_the_other_way_makes_or_nothing(schema: Any, many: list[Any], key: str | None) -> None:
    schema = {**schema, "$defs": {"text": {"type": "string"}}}
    topic = Topic("orders", "test.orders", 3, 1, {}, key=key)
    contract = Contract("orders", jsonschema_rs.validator_for(schema), None, scalar_members(schema))
    write = writer(topic, contract)
    for value in many:
        made = write(Emit("orders", value))
        if made is not None:
            place, chosen, raw = made
            assert place == "test.orders"
            assert (None if chosen is None else chosen.encode(), raw) == encoded(topic, contract, value, None)


def test_it_makes_what_most_events_are() -> None:
    schema = {"required": ["a", "n"], "properties": {"a": {"type": "string"}, "n": {"type": "number"}}}
    for members in (scalar_members(schema), None):
        write = writer(TOPIC, Contract("orders", jsonschema_rs.validator_for(schema), None, members))
        assert write(Emit("o", {"a": "ü", "n": 1.5})) == ("test.orders", "ü", '{"a":"ü","n":1.5}'.encode())
        assert write(Emit("o", {"a": "x", "n": 1, "more": 2})) == ("test.orders", "x", b'{"a":"x","n":1,"more":2}')
        assert write(Emit("o", {"a": "x"})) is None
        assert write(Emit("o", {"a": "x", "n": 1}, key="k")) is None
        assert write(Emit("o", {"a": "x", "n": 1}, headers={})) is None


@pytest.mark.parametrize(
    ("schema", "members"),
    [
        ({"required": ["a", "b"], "properties": {"a": {"type": "string"}, "b": {"const": 1}}}, 2),
        ({"required": ["a", "a"], "properties": {"a": {"enum": ["x", 2]}}}, 1),
        ({"$schema": f"{DRAFT_7}#", "required": ["a"], "properties": {"a": {"type": "integer"}}}, 1),
        ({"$schema": "https://example.com/mine", "required": ["a"], "properties": {"a": {"type": "integer"}}}, None),
        ({"required": ["a"], "properties": {"a": {"type": ["string", "null"]}}}, None),
        ({"required": ["a"], "properties": {"a": {"enum": ["x", None]}}}, None),
        ({"required": ["a"], "properties": {"a": {"$ref": "#/x", "type": "string"}}}, None),
        ({"required": ["a"], "properties": {}}, None),
        ({"properties": {"a": {"type": "string"}}}, None),
        ({"$ref": "#/x", "required": ["a"], "properties": {"a": {"type": "string"}}}, None),
        (True, None),
    ],
)  # fmt: skip
def test_which_schemas_prove_that_a_valid_object_has_known_scalars_only(schema: Any, members: int | None) -> None:
    assert scalar_members(schema) == members


def test_contracts_know_it(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"required": ["a"], "properties": {"a": {"type": "string"}}}))
    topics = {
        "with": Topic("with", "with", 1, 1, {}, schema=Path("s.json")),
        "without": Topic("without", "without", 1, 1, {}),
    }
    contracts = load_contracts(Pipeline("p", "", tmp_path, KafkaSettings(), topics, {}, {}))
    assert (contracts["with"].members, contracts["without"].members) == (1, None)
    with pytest.raises(ContractError):
        encoded(topics["with"], contracts["with"], {"a": 1}, None)
