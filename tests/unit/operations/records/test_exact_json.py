"""Numbers keep their digits on the way in and on the way out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contracts import Undecodable, encode_json
from orchestrator.operations.records import exact_json

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("number", ["150.00", "99.99", "0.10", "18446744073709551615", "-9223372036854775808", "1"])
def test_a_number_is_sent_as_it_was_typed(number: str) -> None:
    document = f'{{"amount":{number}}}'.encode()
    assert encode_json(exact_json.parse(document)) == document


def test_an_integer_beyond_64_bits_keeps_its_digits() -> None:
    assert encode_json(exact_json.parse(b"[123456789012345678901234567890]")) == b"[123456789012345678901234567890]"


@given(values)
def test_parsing_changes_no_value(value: Any) -> None:
    assert json.loads(encode_json(exact_json.parse(json.dumps(value).encode()))) == value


@given(values)
def test_compacting_changes_no_value_and_leaves_no_space(value: Any) -> None:
    compact = exact_json.compact(json.dumps(value, indent=3).encode())
    assert compact == json.dumps(value, separators=(",", ":"))


def test_compacting_keeps_numbers_and_strings() -> None:
    assert exact_json.compact(b' { "a b" : 150.00 ,\r\n "c" : "x \\" : y" } ') == '{"a b":150.00,"c":"x \\" : y"}'


@pytest.mark.parametrize("raw", [b"", b"{", b"NaN", b"\xff", b"[1] [2]", b"[" * 300 + b"]" * 300, b'"\\ud800"'])
def test_what_no_worker_can_read_is_no_json_here_either(raw: bytes) -> None:
    assert exact_json.compact(raw) is None
    with pytest.raises(Undecodable):
        exact_json.parse(raw)
