"""From a value to a record: encoded, valid, keyed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import Topic
from orchestrator.contracts import Contract, outgoing
from orchestrator.contracts.load import compile_schema
from orchestrator.errors import ContractError
from orchestrator.records import Outgoing

TOPIC = Topic("orders", "test.orders", 3, 1, {}, key="orderId")
ANY = Contract("orders")


@pytest.mark.parametrize(
    ("order_id", "key"),
    [("o-1", b"o-1"), ("größe", "größe".encode()), (17, b"17"), (-3, b"-3"), ("", b"")],
)
def test_the_key_is_the_values_member(order_id: Any, key: bytes) -> None:
    assert outgoing(TOPIC, ANY, {"orderId": order_id}).key == key


@pytest.mark.parametrize("value", [{}, {"orderId": None}, {"orderId": 1.5}, {"orderId": True}, {"orderId": {}}, [], 5])
def test_a_value_without_a_usable_key_is_refused(value: Any) -> None:
    with pytest.raises(ContractError) as caught:
        outgoing(TOPIC, ANY, value)
    assert caught.value.violations == (("$.orderId", "is the key: a string or an integer is required"),)


def test_a_given_key_wins() -> None:
    assert outgoing(TOPIC, ANY, {"orderId": "a"}, key="b").key == b"b"
    assert outgoing(TOPIC, ANY, {"orderId": "a"}, key=b"\xff").key == b"\xff"
    assert outgoing(TOPIC, ANY, {}, key="b").key == b"b"


def test_a_topic_that_names_no_key_has_null_keys() -> None:
    assert outgoing(Topic("orders", "orders", 3, 1, {}), ANY, {"orderId": "a"}).key is None


def test_the_record_goes_to_the_clusters_name_with_its_headers() -> None:
    record = outgoing(TOPIC, ANY, {"orderId": "a"}, headers={"trace": "ü", "raw": b"\x00"})
    assert record == Outgoing("test.orders", b"a", b'{"orderId":"a"}', (("trace", "ü".encode()), ("raw", b"\x00")))


def test_a_tombstone_needs_a_key() -> None:
    assert outgoing(TOPIC, ANY, None, key="a") == Outgoing("test.orders", b"a", None)
    with pytest.raises(ContractError, match="needs a key"):
        outgoing(TOPIC, ANY, None)


def test_what_counts_is_what_a_consumer_reads(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"properties": {"amount": {"type": "number"}, "at": {"type": "string"}}}))
    contract = Contract("orders", compile_schema(path))
    good = {"orderId": "a", "amount": Decimal("99.99"), "items": ("a", "b")}
    assert outgoing(TOPIC, contract, good).value == b'{"orderId":"a","amount":99.99,"items":["a","b"]}'
    with pytest.raises(ContractError) as caught:
        outgoing(TOPIC, contract, {"orderId": "a", "amount": "99.99", "at": Decimal(1)})
    assert [path for path, _ in caught.value.violations] == ["$.amount", "$.at"]
    assert "$.amount" in caught.value.message


def test_what_json_cannot_say_breaks_the_contract_at_its_place() -> None:
    with pytest.raises(ContractError) as caught:
        outgoing(TOPIC, ANY, {"orderId": "a", "amount": float("nan")})
    assert caught.value.violations == (("$.amount", "nan is not a JSON number"),)


def test_keys_and_headers_that_are_no_unicode_are_refused() -> None:
    with pytest.raises(ContractError, match="key"):
        outgoing(TOPIC, ANY, {}, key="\ud800")
    with pytest.raises(ContractError, match="header"):
        outgoing(TOPIC, ANY, {"orderId": "a"}, headers={"h": "\ud800"})
