"""A record as JSON, by kcat's letters, and for people."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render import output, record
from orchestrator.errors import UsageError
from orchestrator.records import Headers, Record

RECORD = Record(
    "dev.orders", 1, 42, 1_738_324_800_123, b"o-1", b'{"amount": 150.00}', (("trace", b"t"), ("none", None))
)
bytes_or_none = st.none() | st.binary(max_size=12) | st.sampled_from([b'{"a": 1.10}', b"null", b"", b"\xff\x1b[2J"])
headers = st.lists(st.tuples(st.text(max_size=4), bytes_or_none), max_size=3).map(tuple)


@given(bytes_or_none, bytes_or_none, headers)
def test_json_loses_nothing(key: bytes | None, value: bytes | None, given_headers: Headers) -> None:
    line = record.as_json(Record("t", 0, 1, 2, key, value, given_headers), "t")
    assert output.safe(output.json_safe(line)) == output.json_safe(line)
    shown = json.loads(line)
    assert back(shown, "key") == key
    assert [(name, header(raw)) for name, raw in shown["headers"]] == list(given_headers)
    if "value_base64" in shown:
        assert base64.b64decode(shown["value_base64"]) == value
        assert shown["value"] is None
    else:
        assert shown["value"] == (None if value is None else json.loads(value))


def back(shown: dict[str, str], name: str) -> bytes | None:
    if f"{name}_base64" in shown:
        assert shown[name] is None
        return base64.b64decode(shown[f"{name}_base64"])
    return None if shown[name] is None else shown[name].encode()


def header(raw: str | dict[str, str] | None) -> bytes | None:
    if isinstance(raw, dict):
        return base64.b64decode(raw["base64"])
    return None if raw is None else raw.encode()


def test_json_has_the_documented_fields_and_exact_numbers() -> None:
    assert record.as_json(RECORD, "orders") == (
        '{"topic":"orders","partition":1,"offset":42,"timestamp":1738324800123,"key":"o-1",'
        '"value":{"amount":150.00},"headers":[["trace","t"],["none",null]]}'
    )


def test_a_missing_timestamp_is_null() -> None:
    assert json.loads(record.as_json(RECORD._replace(timestamp=-1), "orders"))["timestamp"] is None


def test_a_tombstone_and_the_document_null_are_not_the_same() -> None:
    tombstone = json.loads(record.as_json(RECORD._replace(value=None), "orders"))
    document = json.loads(record.as_json(RECORD._replace(value=b"null"), "orders"))
    assert tombstone["value"] is document["value"] is None
    assert "value_base64" not in tombstone
    assert base64.b64decode(document["value_base64"]) == b"null"


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("%t %p %o %k %v %h %T", b'orders 1 42 o-1 {"amount": 150.00} trace=t,none=NULL 1738324800123\n'),
        ("%s", b'{"amount": 150.00}\n'),
        ("%K %S", b"3 18\n"),
        (r"%R\c", b"\0\0\0\x12"),
        (r"%k\n", b"o-1\n"),
        (r"%k\0", b"o-1\0"),
        (r"%k\c", b"o-1"),
        (r"%k\t%p\x21", b"o-1\t1!"),
        (r"%k\\", b"o-1\\\n"),
        (r"100%% \\n", b"100% \\n\n"),
        ("größe", "größe\n".encode()),
        ("", b"\n"),
    ],
)
def test_kcats_letters(template: str, shown: bytes) -> None:
    assert record.by_format(template, escaped=False)(RECORD, "orders") == shown


def test_the_length_of_null_is_minus_one() -> None:
    nothing = RECORD._replace(key=None, value=None)
    assert record.by_format(r"%K %S %R\c", escaped=False)(nothing, "t") == b"-1 -1 \xff\xff\xff\xff"


def test_a_file_gets_the_bytes_and_a_terminal_their_escapes() -> None:
    dirty = RECORD._replace(key=b"\xff\x1b[2J", value=None)
    assert record.by_format("%k|%v", escaped=False)(dirty, "t") == b"\xff\x1b[2J|\n"
    assert record.by_format("%k|%v", escaped=True)(dirty, "t") == b"\\xff\\x1b[2J|\n"


@pytest.mark.parametrize("template", ["%x", "%", "a\\", r"\q", r"\xZZ"])
def test_an_unknown_letter_is_refused_and_the_known_ones_are_listed(template: str) -> None:
    with pytest.raises(UsageError) as caught:
        record.by_format(template, escaped=False)
    assert "%k key" in caught.value.hint


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_for_people_it_is_time_place_key_and_value(utc: None) -> None:
    assert record.for_people(RECORD, "orders") == '2025-01-31 12:00:00.123  1@42  o-1  {"amount":150.00}'
    assert "  orders[1]@42  " in record.for_people(RECORD, "orders", show_topic=True)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        (None, None, "null  (tombstone)"),
        (b"k", b"", "k  (not JSON, 0 bytes)"),
        (b"\xff", b"plain", r"\xff  (not JSON, 5 bytes) plain"),
        (b"k", b"\x1b]0;x\x07\n", r"k  (not JSON, 7 bytes) \x1b]0;x\x07\n"),
        (b"k", '"\u202e\x9b"'.encode(), r'k  "\u202e\x9b"'),
    ],
)
def test_nothing_in_a_record_acts_on_the_terminal(key: bytes, value: bytes, shown: str) -> None:
    line = record.for_people(RECORD._replace(key=key, value=value), "orders")
    assert line.endswith(f"1@42  {shown}")


@pytest.mark.parametrize("timestamp", [-1, 10**18, 2**62])
def test_any_timestamp_can_be_shown(timestamp: int) -> None:
    shown = record.for_people(RECORD._replace(timestamp=timestamp), "orders").split("  ")[0]
    assert shown == ("-" if timestamp < 0 else str(timestamp))


def test_local_time_is_shown() -> None:
    local = datetime.fromtimestamp(RECORD.timestamp / 1000).strftime("%Y-%m-%d %H:%M:%S")
    assert record.for_people(RECORD, "orders").startswith(local)


def letter(**said: str) -> Headers:
    return tuple((f"kpipe-dlq-{name.replace('_', '-')}", value.encode()) for name, value in said.items())


def test_a_dead_letter_tells_why_and_where_from() -> None:
    headers = letter(
        id="g/orders/1/42",
        reason="schema",
        topic="orders",
        partition="1",
        offset="42",
        handler="payments",
        attempts="5",
        error_type="ValueError",
        error_message="no\x1b[31m",
        violations='[{"path": "$.amount", "message": "\\"ten\\" is not a number"}]',
    )
    lines = record.for_people(RECORD._replace(headers=headers), "orders.dlq").splitlines()
    assert lines[1:] == [
        "    schema from orders[1]@42 by payments, 5 attempts",
        '    $.amount: "ten" is not a number',
    ]
    without = tuple(h for h in headers if h[0] != "kpipe-dlq-violations")
    lines = record.for_people(RECORD._replace(headers=without), "orders.dlq").splitlines()
    assert lines[1:] == ["    schema from orders[1]@42 by payments, 5 attempts", r"    ValueError: no\x1b[31m"]


def test_any_headers_can_call_themselves_a_letter() -> None:
    headers = (*letter(id="x", reason="\x1b", violations="{", offset="many"), ("kpipe-dlq-topic", None))
    lines = record.for_people(RECORD._replace(headers=headers), "orders.dlq").splitlines()
    assert lines[1:] == [r"    \x1b from [-1]@-1"]


def test_headers_are_split_at_the_first_colon() -> None:
    assert record.headers_of(("a: b:c", "empty:", "a:2")) == (("a", b"b:c"), ("empty", b""), ("a", b"2"))


@pytest.mark.parametrize("word", ["novalue", ":x", " :x"])
def test_a_header_needs_a_name(word: str) -> None:
    with pytest.raises(UsageError):
        record.headers_of((word,))
