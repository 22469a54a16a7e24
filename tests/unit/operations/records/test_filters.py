"""`-k`, `-H`, `--grep` and `--where`: which records pass."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render.record import as_json, headers_of
from orchestrator.errors import UsageError
from orchestrator.operations.records.filters import Filter, filter_of
from orchestrator.operations.records.where import Where, document
from orchestrator.records import Headers, Record

VALUE: dict[str, Any] = {"amount": 150.0, "status": "CREATED", "items": ["laptop"], "none": None, "text": "grün"}
LETTER: Headers = (
    ("kpipe-dlq-id", b"g/orders/1/7"),
    ("kpipe-dlq-reason", b"schema"),
    ("kpipe-dlq-attempts", b"2"),
    ("kpipe-dlq-violations", b'[{"path":"$.amount","message":"no"}]'),
)
RECORD = Record("dev.orders", 1, 42, 7, b"o-1", json.dumps(VALUE).encode(), (("trace", b"abc"), ("empty", None)))


def passes(record: Record = RECORD, **words: Any) -> bool:
    given = {"key": None, "headers": (), "grep": None, "where": None, **words}
    given["headers"] = headers_of(given["headers"])
    return filter_of(**given).on({"dev.orders": "orders"})(record)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("value.amount > `100`", True),
        ("value.amount > `150`", False),
        ("value.status == 'CREATED' && key == 'o-1'", True),
        ("topic == 'orders' && partition == `1` && offset >= `42` && timestamp == `7`", True),
        ("contains(value.items, 'laptop')", True),
        ("value.none", False),
        ("value.nothing.at.all", False),
        ("!(value.nothing)", True),
        ("headers[?[0] == 'trace' && [1] == 'abc']", True),
        ("headers[?[0] == 'empty'] | [0][1] == `null`", True),
        ("letter", False),
        ("letter.reason == 'schema'", False),
        ("value.text == 'grün'", True),
    ],
)
def test_an_expression_about_a_record(expression: str, expected: bool) -> None:
    assert passes(where=expression) is expected


@pytest.mark.parametrize(
    "expression",
    ["letter.reason == 'schema'", "letter.attempts == `2`", "letter.violations[?path == '$.amount']", "letter.id"],
)
def test_a_dead_letter_tells_of_itself(expression: str) -> None:
    assert passes(RECORD._replace(headers=LETTER), where=expression)


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", b"not json", b"[" * 3000])
def test_what_is_no_json_has_a_null_value(value: bytes | None) -> None:
    assert passes(RECORD._replace(value=value), where="value == `null`")
    assert not passes(RECORD._replace(value=value), where="value.amount > `1`")


def test_what_it_cannot_be_asked_about_does_not_pass_and_is_counted() -> None:
    where = Where("contains(value.items, 'laptop')")
    assert [where(RECORD._replace(value=value), "t") for value in (b"{}", RECORD.value, b"7")] == [False, True, False]
    assert where.failed == 2
    assert "contains()" in where.why


@pytest.mark.parametrize(
    "expression", ["", "value.", "value.amount > 100", "nope(value)", "value.a && nope(@)", "a ||"]
)
def test_a_wrong_expression_is_refused_before_anything_is_read(expression: str) -> None:
    with pytest.raises(UsageError) as caught:
        filter_of(None, (), None, expression)
    assert "backticks" in caught.value.hint


@given(
    st.none() | st.binary(max_size=8),
    st.none() | st.binary(max_size=8) | st.sampled_from([b"null", b'{"a":[1.5,"x"]}']),
    st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=4)), max_size=3).map(tuple),
)
def test_an_expression_sees_what_json_shows(key: bytes | None, value: bytes | None, headers: Headers) -> None:
    record = RECORD._replace(key=key, value=value, headers=headers)
    seen = document(record, "orders")
    assert seen.pop("letter") is None
    shown = json.loads(as_json(record, "orders"))
    assert seen == {name: shown[name] for name in seen}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("lap", True), ("^o-[0-9]$", True), ("abc", True), ("gr(ü|\\\\u00fc)n", True), ("desktop", False)],
)  # fmt: skip
def test_a_pattern_is_looked_for_in_key_value_and_headers(pattern: str, expected: bool) -> None:
    assert passes(grep=pattern) is expected


def test_a_pattern_and_bytes_that_are_no_text() -> None:
    assert passes(RECORD._replace(key=b"\xff", value=None, headers=()), grep=r"\\xff")
    assert not passes(RECORD._replace(key=None, value=None, headers=()), grep="")


def test_a_wrong_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--grep \(: not a regular expression"):
        filter_of(None, (), "(", None)


def test_expressions_and_patterns_that_are_nested_too_deeply() -> None:
    for expression in ("(" * 4_000 + "a" + ")" * 4_000, "!" * 4_000 + "a", "[" * 4_000 + "a" + "]" * 4_000):
        with pytest.raises(UsageError, match="nested too deeply"):
            filter_of(None, (), None, expression)
    with pytest.raises(UsageError, match="longer than 10,000 characters"):
        filter_of(None, (), None, "a" * 10_001)
    with pytest.raises(UsageError, match="not a regular expression"):
        filter_of(None, (), "(" * 2_000 + "a" + ")" * 2_000, None)


def test_headers_have_to_be_there_all_of_them() -> None:
    assert passes(headers=("trace:abc",))
    assert not passes(headers=("trace:ab",))
    assert not passes(headers=("trace:abc", "other:x"))
    assert passes(RECORD._replace(headers=(("a", b"1"), ("a", b"2"))), headers=("a:2", "a:1"))


def test_all_filters_hold_together_and_none_lets_all_through() -> None:
    assert passes(key="o-1", headers=("trace:abc",), grep="laptop", where="value.amount > `1`")
    assert not passes(key="o-2", headers=("trace:abc",), grep="laptop", where="value.amount > `1`")
    assert passes()
    assert not Filter().given
    assert filter_of(None, (), "x", None).given
