"""docs/protocol.md and the schemas of its messages say what the code takes and gives."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

import orchestrator.worker.runners
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event, Letter
from orchestrator.records import Headers, Record
from orchestrator.worker.runners.messages import outcome_of, request_line
from orchestrator.worker.runners.window import MOST
from tests.unit.worker.runners import test_messages

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
FOLDER = Path(orchestrator.worker.runners.__file__).parent
REQUEST, REPLY = (json.loads((FOLDER / f"{name}.schema.json").read_text()) for name in ("request", "reply"))
LETTER = Letter("g/t/0/1", "t", 0, 1, "h", "schema", "E", "m", 2, ({"path": "$", "message": "x"},), "f", 1)


def valid(schema: Any, value: Any) -> bool:
    return jsonschema_rs.validator_for(schema).is_valid(value)


@pytest.mark.parametrize(
    ("key", "raw", "headers", "letter"),
    [
        (b"k", b'{"a": 1}', (), None),
        (None, None, (("a", b"b"), ("a", None), ("b", b"\xff")), None),
        (b"\xff", b"not JSON", (), LETTER),
    ],
)
def test_requests_keep_their_schema(
    key: bytes | None, raw: bytes | None, headers: Headers, letter: Letter | None
) -> None:
    value = json.loads(raw) if raw and letter is None else None
    event = Event(Record("in", 0, 1, 2, key, raw, headers), value, letter=letter)
    request = json.loads(request_line(event, 1))
    closed = {**REQUEST, "additionalProperties": False}
    jsonschema_rs.validate(closed, request)
    assert ("letter" in request) == (letter is not None)


def replies() -> list[Any]:
    """All that the unit tests of the messages know."""
    marks = [mark for name in ("test_nothing_to_publish", "test_failures", "test_what_is_wrong_is_said")
             for mark in getattr(test_messages, name).pytestmark]  # fmt: skip
    rows = [row for mark in marks for row in mark.args[1]]
    return [row[0] if isinstance(row, tuple) else row for row in rows]


@pytest.mark.parametrize("reply", replies(), ids=repr)
def test_the_schema_of_replies_is_what_is_taken(reply: Any) -> None:
    reply = {"id": 1, **reply} if isinstance(reply, dict) else reply
    outcome = outcome_of(reply)
    taken = not (isinstance(outcome, Failed) and outcome.verdict == "output")
    base64 = "Base64" in str(outcome) and "is not Base64" in str(outcome)
    assert valid(REPLY, reply) == (taken or base64), outcome


def test_the_page_is_right() -> None:
    shown = re.search(r"<!-- reply:.*?-->\n```json\n(.*?)```", PAGE, re.DOTALL)
    assert shown and shown[1] == (FOLDER / "reply.schema.json").read_text()
    request = re.search(r"^```json\n(\{\"id\".*?)\n```", PAGE, re.DOTALL | re.MULTILINE)
    assert request and valid(REQUEST, json.loads(request[1]))
    answers = re.findall(r"^\| `(\{.*?\})` \|", PAGE, re.MULTILINE)
    assert len(answers) == 5 and all(valid(REPLY, json.loads(answer)) for answer in answers)
    members = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", PAGE, re.MULTILINE))))
    assert members >= REQUEST["properties"].keys() - {"keyBase64", "valueBase64"}
    assert f"up to {MOST}," in PAGE


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    code = re.search(r"```js\n(.*?)```", PAGE, re.DOTALL)
    assert code
    (tmp_path / "payments.js").write_text(code[1])
    request = re.search(r"^```json\n(\{\"id\".*?)\n```", PAGE, re.DOTALL | re.MULTILINE)
    assert request
    done = subprocess.run(
        ["bash", "-c", 'node payments.js 3<<<"$1" 4>&1', "-", request[1]],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    reply = json.loads(done.stdout)
    assert valid(REPLY, reply) and reply["id"] == 17
