"""What `send` sends: example, generated fields, JSON, `--set`; and where documents come from."""

from __future__ import annotations

import io
import os
import sys
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render.record import as_json
from orchestrator.config.model import EventTemplate
from orchestrator.contracts import encode_json
from orchestrator.errors import UsageError
from orchestrator.operations.records import exact_json
from orchestrator.operations.send.drafts import Draft, drafts
from orchestrator.operations.send.input import Documents, Raw
from orchestrator.operations.send.recorded import recorded
from orchestrator.records import Headers, Record

ORDER = EventTemplate("order", "orders", Path("order.json"), {"id": "uuid", "at": "now"})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "order.json").write_text('{"id": "old", "at": "old", "amount": 150.00, "user": {"name": "a"}}')
    return tmp_path


def documents(word: str, *, allow_raw: bool) -> list[Any]:
    return list(Documents(word, allow_raw=allow_raw))


def one(*words: Any, **more: Any) -> Draft:
    [draft] = drafts(*words, **more)
    return draft


def values(base: Path, template: EventTemplate | None, body: str | None, *fields: str) -> list[Any]:
    return [draft.value() for draft in drafts(template, base, body, fields, allow_raw=False)]


def test_the_example_gets_fresh_generated_fields_each_time(base: Path) -> None:
    draft = one(ORDER, base, None, (), allow_raw=False)
    first, second = draft.value(), draft.value()
    assert uuid.UUID(first["id"]) != uuid.UUID(second["id"])
    assert datetime.fromisoformat(first["at"]).tzinfo is not None
    assert first["user"] == {"name": "a"}


def test_what_the_user_gives_wins(base: Path) -> None:
    [value] = values(base, ORDER, '{"id": "mine", "user": {"age": 4}}', "user.name=b", "amount=99.90")
    assert value["id"] == "mine"
    assert value["user"] == {"name": "b", "age": 4}
    assert b'"amount":99.90' in encode_json(value)


def test_numbers_of_the_example_keep_their_digits(base: Path) -> None:
    assert b'"amount":150.00' in encode_json(values(base, ORDER, None)[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [("a=1", 1), ("a=true", True), ('a="1"', "1"), ("a=some text", "some text"), ("a=null", None), ("a=", "")],
)
def test_set_takes_json_else_text(base: Path, field: str, value: Any) -> None:
    assert values(base, None, None, field) == [{"a": value}]


def test_a_topic_takes_the_document_as_it_stands(base: Path) -> None:
    assert values(base, None, '{"a": null, "b": [1]}') == [{"a": None, "b": [1]}]


def test_a_topic_alone_says_nothing(base: Path) -> None:
    with pytest.raises(UsageError, match="no example"):
        values(base, None, None)


def test_one_document_may_have_many_lines(base: Path) -> None:
    (base / "one.json").write_text('{\n "a": 1\n}\n')
    assert documents(f"@{base / 'one.json'}", allow_raw=False) == [{"a": 1}]


def test_json_lines_are_one_event_each(base: Path) -> None:
    (base / "many.json").write_bytes(b'{"a": 1}\r\n\n{"a": 2}\n')
    assert documents(f"@{base / 'many.json'}", allow_raw=False) == [{"a": 1}, {"a": 2}]


def test_a_wrong_line_is_named(base: Path) -> None:
    (base / "many.json").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UsageError, match=r"line 2 of .*many\.json is not JSON"):
        documents(f"@{base / 'many.json'}", allow_raw=False)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1]\n[2]\n")))
    found = Documents("-", allow_raw=False)
    assert list(found.numbered()) == [(1, [1]), (2, [2])]
    assert list(found) == [[1], [2]], "it can be gone through again"


def test_a_pipe_is_read_twice_too() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"[1]\n\n[2]\n")
    os.close(theirs)
    found = Documents(f"@/dev/fd/{ours}", allow_raw=False)
    os.close(ours)
    assert list(found.numbered()) == list(found.numbered()) == [(1, [1]), (3, [2])]


def test_json_lines_are_read_one_at_a_time(base: Path) -> None:
    (base / "many.json").write_text("[1]\n[2]\nnot json\n")
    found = iter(Documents(f"@{base / 'many.json'}", allow_raw=False))
    assert [next(found), next(found)] == [[1], [2]]
    with pytest.raises(UsageError, match="line 3"):
        next(found)


bytes_or_none = st.none() | st.binary(max_size=12) | st.sampled_from([b'{"a": 1.10}', b"null", b"", b"\xff\x1b[2J"])
#: Kafka's C client reads no name with a NUL in it.
names = st.binary(max_size=4).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
headers = st.lists(st.tuples(names, bytes_or_none), max_size=3).map(tuple)


@given(bytes_or_none, bytes_or_none, headers)
def test_what_tail_prints_can_be_read_back(key: bytes | None, value: bytes | None, given_headers: Headers) -> None:
    line = as_json(Record("t", 0, 1, 2, key, value, given_headers), "t").encode()
    found = recorded(exact_json.parse(line), "line 1")
    assert (found.key, found.headers) == (key, given_headers)
    if isinstance(found.value, Raw):
        assert found.value.value == value
    elif value is None:
        assert found.value is None
    else:
        assert encode_json(found.value) == value.replace(b" ", b"")


@pytest.mark.parametrize(
    "line",
    [
        "[]", "1", "null", "{}", '{"key": 1, "value": 1, "headers": []}', '{"key": "a", "headers": []}',
        '{"key": "a", "value": 1}', '{"key": "a", "value": 1, "headers": {"a": "b"}}',
        '{"key": "a", "value": 1, "headers": [["a"]]}', '{"key": "a", "value": 1, "headers": [["a", {"base64": "?"}]]}',
        '{"key_base64": "x", "value": 1, "headers": []}', '{"key": "a", "value_base64": 1, "headers": []}',
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(base: Path, line: str) -> None:
    (base / "lines").write_text(f'{{"key": "a", "value": 1, "headers": []}}\n{line}\n')
    with pytest.raises(UsageError, match="line 2 is not a record"):
        list(drafts(None, base, f"@{base / 'lines'}", (), allow_raw=False, records=True))


@pytest.mark.parametrize("word", ["", "@", "@nowhere.json", "{", "NaN", "{'a': 1}", "\udcff"])
def test_what_is_no_document_is_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        documents(word, allow_raw=False)
    assert caught.value.message


def test_what_is_not_json_can_be_sent_byte_for_byte(base: Path) -> None:
    (base / "noise").write_bytes(b"\xff\x00\n{}\n")
    assert documents(f"@{base / 'noise'}", allow_raw=True) == [Raw(b"\xff\x00\n{}\n")]
    assert one(ORDER, base, f"@{base / 'noise'}", (), allow_raw=True).value() == Raw(b"\xff\x00\n{}\n")


def test_no_field_can_be_set_in_what_is_not_json() -> None:
    with pytest.raises(UsageError, match="--set needs JSON"):
        one(None, Path(), "noise", ("a=1",), allow_raw=True)


@pytest.mark.parametrize("field", ["a", "=1", "a..b=1", "a[x]=1"])
def test_a_field_needs_a_path_and_a_value(base: Path, field: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        values(base, ORDER, None, field)
