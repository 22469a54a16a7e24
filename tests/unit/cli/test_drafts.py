"""What `send` sends: example, generated fields, JSON, `--set`; and where documents come from."""

from __future__ import annotations

import io
import sys
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.documents import Raw, documents
from orchestrator.cli.drafts import drafts
from orchestrator.config.model import EventTemplate
from orchestrator.contracts import encode_json
from orchestrator.errors import UsageError

ORDER = EventTemplate("order", "orders", Path("order.json"), {"id": "uuid", "at": "now"})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "order.json").write_text('{"id": "old", "at": "old", "amount": 150.00, "user": {"name": "a"}}')
    return tmp_path


def values(base: Path, template: EventTemplate | None, body: str | None, *fields: str) -> list[Any]:
    return [draft.value() for draft in drafts(template, base, body, fields, allow_raw=False)]


def test_the_example_gets_fresh_generated_fields_each_time(base: Path) -> None:
    draft = drafts(ORDER, base, None, (), allow_raw=False)[0]
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
    assert documents("-", allow_raw=False) == [[1], [2]]


@pytest.mark.parametrize("word", ["", "@", "@nowhere.json", "{", "NaN", "{'a': 1}", "\udcff"])
def test_what_is_no_document_is_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        documents(word, allow_raw=False)
    assert caught.value.message


def test_what_is_not_json_can_be_sent_byte_for_byte(base: Path) -> None:
    (base / "noise").write_bytes(b"\xff\x00\n{}\n")
    assert documents(f"@{base / 'noise'}", allow_raw=True) == [Raw(b"\xff\x00\n{}\n")]
    assert drafts(ORDER, base, f"@{base / 'noise'}", (), allow_raw=True)[0].value() == Raw(b"\xff\x00\n{}\n")


def test_no_field_can_be_set_in_what_is_not_json() -> None:
    with pytest.raises(UsageError, match="--set needs JSON"):
        drafts(None, Path(), "noise", ("a=1",), allow_raw=True)


@pytest.mark.parametrize("field", ["a", "=1", "a..b=1", "a[x]=1"])
def test_a_field_needs_a_path_and_a_value(base: Path, field: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        values(base, ORDER, None, field)
