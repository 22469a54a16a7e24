"""JSON in and out: nothing crashes, and both directions accept the same documents."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.contracts import Undecodable, Unencodable, codec, decode_json, encode_json
from orchestrator.contracts.codec import MAX_DEPTH


def nested(depth: int, opened: str = "[", closed: str = "]") -> bytes:
    return (opened * depth + "1" + closed * depth).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \n",
        b"{",
        b"not json",
        b"1 2",
        b"NaN",
        b'{"a": NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"1" * 400,
        b"01",
        b"\xef\xbb\xbf{}",
        b"\xff\xfe\x00",
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'"a\x00b"',
        "{}".encode("utf-16"),
    ],
)
def test_what_is_not_json_is_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        decode_json(raw)
    assert caught.value.reason


@pytest.mark.parametrize(
    "raw",
    [nested(MAX_DEPTH + 1), nested(MAX_DEPTH + 1, '{"a":', "}"), nested(1500), b"[" * 900_000],
)
def test_what_is_nested_too_deeply_is_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable, match="nested more than 254 levels deep"):
        decode_json(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"null", None),
        (b'{"a":1,"a":2}', {"a": 2}),  # the last of duplicate names counts
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 1.8446744073709552e19),  # beyond 64 bits: a double
        (b'"\\u00e9\\ud83d\\ude00"', "é😀"),
        (b" [1] ", [1]),
    ],
)
def test_what_is_json_is_read(raw: bytes, value: object) -> None:
    assert decode_json(raw) == value


def test_the_deepest_document_can_be_passed_on() -> None:
    for raw in (nested(MAX_DEPTH), nested(MAX_DEPTH, '{"a":', "}")):
        assert encode_json(decode_json(raw)) == raw


def test_a_wide_document_is_not_taken_for_a_deep_one() -> None:
    raw = b"[" + b"[]," * 200_000 + b"[]]"
    assert len(decode_json(raw)) == 200_001


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (Decimal("99.99"), b"99.99"),
        (Decimal("150.00"), b"150.00"),
        (Decimal("0.1") + Decimal("0.2"), b"0.3"),
        ({"amount": Decimal("123456789.123456789123456789")}, b'{"amount":123456789.123456789123456789}'),
        (Decimal("1E+2"), b"1E+2"),
        (UUID("8b1f7a52-0d7e-4c39-8d3a-6f1e2c5b9a70"), b'"8b1f7a52-0d7e-4c39-8d3a-6f1e2c5b9a70"'),
        (datetime(2026, 1, 15, 10, 30, tzinfo=UTC), b'"2026-01-15T10:30:00Z"'),
        (datetime(2026, 1, 15, 12, 30, tzinfo=timezone(timedelta(hours=2))), b'"2026-01-15T10:30:00Z"'),
        (date(2026, 1, 15), b'"2026-01-15"'),
        ((1, [None, True]), b"[1,[null,true]]"),
    ],
)
def test_values_beyond_plain_json(value: object, raw: bytes) -> None:
    assert encode_json(value) == raw


class Odd(Enum):
    NAN = math.nan


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (math.nan, "$", "nan is not a JSON number"),
        ({"a": [1, {"b c": math.inf}]}, '$.a[1]["b c"]', "inf is not"),
        ({"legit": None, "a": -math.inf}, "$.a", "-inf is not"),
        (Odd.NAN, "$", "nan is not"),
        ({"a": Decimal("NaN")}, "$.a", "NaN is not"),
        ({"a": Decimal("sNaN")}, "$.a", "sNaN is not"),
        ([Decimal("1E+400")], "$[0]", "too large"),
        ({1: 2}, "$", "the name 1 is not"),
        ({"a": {None: 2}}, "$.a", "the name None is not"),
        ({"\ud800": 1}, "$", "is not a Unicode string"),
        ({"a": "\ud800"}, "$.a", "UTF-8"),
        ({"a": 2**64}, "$.a", "64-bit"),
        ({"a": datetime(2026, 1, 1)}, "$.a", "time zone"),
        ({"a": {1, 2}}, "$.a", "set has no JSON form"),
        ([b"x"], "$[0]", "bytes has no JSON form"),
        ([object()], "$[0]", "object has no JSON form"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(value: object, path: str, reason: str) -> None:
    with pytest.raises(Unencodable) as caught:
        encode_json(value)
    assert caught.value.path == path
    assert reason in caught.value.reason
    str(caught.value).encode()  # printable anywhere


def test_nesting_and_cycles_are_refused() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(Unencodable, match="nested more than"):
            encode_json(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # surrogates are no characters, so no JSON document has them
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=30,
)


@given(json_values)
def test_what_is_written_can_be_read(value: object) -> None:
    assert decode_json(encode_json(value)) == value


@given(st.binary() | json_values.map(lambda v: json.dumps(v).encode()))
@example(b"[" * 255 + b"]" * 255)
@example(b'{"a":' * 300 + b"1" + b"}" * 300)
def test_whatever_is_read_can_be_written(raw: bytes) -> None:
    try:
        value = decode_json(raw)
    except Undecodable:
        return
    assert decode_json(encode_json(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**200), max_value=10**200))
def test_a_decimal_keeps_every_digit(number: Decimal) -> None:
    assert json.loads(encode_json(number), parse_float=Decimal, parse_int=Decimal) == number


def test_ctrl_c_while_a_value_is_written_is_no_fault_of_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(codec, "_number", interrupted)
    with pytest.raises(KeyboardInterrupt):
        codec.encode_json({"amount": Decimal("1.10")})
