"""`kpipe validate` from outside: what it prints where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest

from tests.support.shell import kpipe, on_terminal

GOOD = "kpipe: 1\npipeline: shop\ntopics: {orders: {schema: order.json, dlq: orders.dlq}}\n"
GOOD += "events: {order: {topic: orders, example: example.json, generate: {id: uuid, at: now}}}\n"
SCHEMA = """{
  "properties": {"id": {"type": "string", "format": "uuid"}, "at": {"format": "date-time"}, "n": {"type": "number"}},
  "required": ["id", "at", "n"]
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(GOOD)
    (tmp_path / "order.json").write_text(SCHEMA)
    (tmp_path / "example.json").write_text('{"n": 1}')
    return tmp_path


def test_a_valid_file(folder: Path) -> None:
    done = kpipe(folder, "validate")
    assert done.code == 0
    assert done.out == "pipeline.yaml: ok: 2 topics (1 DLQ), 0 handlers, 0 warnings\n"
    assert "kpipe up" in done.err


def test_a_valid_file_as_json_is_no_line(folder: Path) -> None:
    assert kpipe(folder, "validate", "--json") == (0, "", "")


def test_all_errors_on_stdout_with_exit_code_2(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text("kpipe: 1\npipeline: shop\ntopcis: {}\ntopics: {a b: }\n")
    done = kpipe(folder, "validate")
    assert done.code == 2
    assert done.out.splitlines()[:2] == [
        "pipeline.yaml:3:1: error: topcis: unknown key",
        "  hint: did you mean `topics`?",
    ]
    assert done.out.splitlines()[2].startswith("pipeline.yaml:4:10: error: `a b` is no name for a topic")
    assert done.err == "2 errors, 0 warnings\n"


def test_findings_as_json_lines(folder: Path) -> None:
    (folder / "prod.yaml").write_text("topics: {orders: {partitions: many}}\n")
    done = kpipe(folder, "-f", "pipeline.yaml", "-f", "prod.yaml", "--json", "validate")
    assert (done.code, done.err) == (2, "")
    [line] = done.out.splitlines()
    assert json.loads(line) == {
        "severity": "error",
        "code": "type",
        "file": "prod.yaml",
        "line": 1,
        "column": 31,
        "message": "topics.orders.partitions: expected a whole number, got the text `many`",
        "hint": "",
    }


def test_warnings_alone_end_with_0(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(GOOD.replace("dlq:", "key: nn, dlq:"))
    done = kpipe(folder, "validate")
    assert done.code == 0
    assert done.out.startswith("pipeline.yaml:3:44: warning: the schema of `orders` has no property `nn`")
    assert "1 warning" in done.out.splitlines()[-1]


def test_an_example_that_breaks_its_contract(folder: Path) -> None:
    (folder / "example.json").write_text('{"n": "one"}')
    done = kpipe(folder, "validate", "--json")
    assert done.code == 2
    [finding] = map(json.loads, done.out.splitlines())
    assert (finding["code"], finding["line"], finding["column"]) == ("example", 4, 42)
    assert "`order`" in finding["message"] and "$.n" in finding["message"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("order.json", '{"format": "nope"}', "schema"), ("example.json", '{"n": 1, "n": NaN}', "json")],
)
def test_files_that_the_pipeline_names(folder: Path, name: str, content: str, code: str) -> None:
    (folder / name).write_text(content)
    done = kpipe(folder, "validate", "--json")
    assert done.code == 2 and [json.loads(line)["code"] for line in done.out.splitlines()] == [code]


def test_a_field_to_generate_that_cannot_be_made(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(GOOD.replace("id: uuid", "'n[': uuid"))
    done = kpipe(folder, "validate")
    assert done.code == 2 and "pipeline.yaml:4:42: error: the event `order` cannot be made" in done.out


def test_what_comes_from_the_environment_is_not_printed(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text("kpipe: 1\npipeline: ${SECRET}\ntopics: {t: {cleanup: '${SECRET}'}}\n")
    done = kpipe(folder, "validate", "--verbose", env={"SECRET": "Hunter2 !"})
    assert done.code == 2 and "Hunter2" not in done.out + done.err and "`${SECRET}`" in done.out


def test_control_characters_do_not_reach_a_terminal(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text('kpipe: 1\npipeline: "\\e[31m"\n"\\e]0;x": 1\n')
    code, sent = on_terminal(folder, "validate", "--no-color")
    assert code == 2 and b"\x1b" not in sent and b"\\x1b[31m" in sent


def test_a_file_that_is_not_there(folder: Path) -> None:
    done = kpipe(folder, "-f", "nope.yaml", "validate")
    assert (done.code, done.out) == (2, "") and "nope.yaml" in done.err and "Traceback" not in done.err


def test_the_schema_for_editors_takes_the_file(folder: Path) -> None:
    done = kpipe(folder, "validate", "--print-schema")
    schema = json.loads(done.out)
    assert done.code == 0
    assert jsonschema_rs.Draft202012Validator(schema).is_valid({"kpipe": 1, "pipeline": "p"})
    assert not jsonschema_rs.Draft202012Validator(schema).is_valid({"kpipe": 1, "pipeline": "P"})


@pytest.mark.parametrize(
    ("schema", "option", "message"),
    [
        ({"type": "object", "required": ["a"], "properties": {"a": False}}, "schema", "no event can keep the contract"),
        ({"type": "object", "properties": {"id": {"type": "boolean"}}}, "key", "`id` is never text or a whole number"),
        ({"additionalProperties": False, "type": "object"}, "key", "it allows no `id`"),
        ({"type": "array"}, "key", "its events are no objects"),
    ],
)
def test_a_contract_under_which_nothing_can_be_sent(tmp_path: Path, schema: object, option: str, message: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps(schema))
    text = "kpipe: 1\npipeline: p\ntopics:\n  t:\n    schema: s.json\n    key: id\n"
    (tmp_path / "pipeline.yaml").write_text(text)
    done = kpipe(tmp_path, "--json", "validate")
    assert done.code == 2
    finding = next(one for one in map(json.loads, done.out.splitlines()) if one["severity"] == "error")
    assert (finding["code"], finding["line"]) == ("contract", 5 if option == "schema" else 6)
    assert message in finding["message"]
    assert kpipe(tmp_path, "topics", "sync", "--dry-run").code == 2
