"""What a smoke step expects, held against what is there."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as XML

import pytest

from orchestrator.cli.render.smoke_report import write_junit
from orchestrator.config.scenarios import Scenario, ScenarioStep
from orchestrator.config.syntax.nodes import Mark
from orchestrator.operations.smoke.matching import (
    ask,
    check_expression,
    difference,
    filled,
    judge_record,
    judge_response,
)
from orchestrator.operations.smoke.runner import Verdict
from orchestrator.records import Record


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "x", "d": 0}], "e": None}}),
        ({}, {"a": 1}),
        (1, 1.0),
        (None, None),
        ([], []),
    ],
)
def test_what_is_not_named_may_be_anything(expected: Any, found: Any) -> None:
    assert difference(expected, found) == ""


@pytest.mark.parametrize(
    ("expected", "found", "why"),
    [
        ({"a": 1}, {"b": 1}, "$.a is missing"),
        ({"a": {"b": 1}}, {"a": {"b": "1"}}, '$.a.b: expected 1, found "1"'),
        ({"a": [1]}, {"a": [1, 2]}, "$.a: expected [1], found [1,2]"),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "$.a[1].b: expected 2, found 3"),
        (1, True, "$: expected 1, found true"),
        (False, 0, "$: expected false, found 0"),
        (None, 0, "$: expected null, found 0"),
        ({}, [], "$: expected an object, found []"),
    ],
)
def test_the_first_difference_is_told(expected: Any, found: Any, why: str) -> None:
    assert difference(expected, found) == why


def test_references_keep_the_type_where_they_are_the_whole_text() -> None:
    scope, environ = {"n": 5, "o": {"a": 1}, "t": "x"}, {"HOME": "/h", "EMPTY": ""}
    assert filled({"a": "${n}", "b": ["${o}", "n is ${n}"]}, scope, environ) == {"a": 5, "b": [{"a": 1}, "n is 5"]}
    assert filled("${t}-${HOME}-${EMPTY:-d}-$$t-$$${t}", scope, environ) == "x-/h-d-$t-$x"
    assert filled("${HOME}", scope, environ) == "/h" and filled(7, scope, environ) == 7


def record(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record("ns.t", 0, 3, 1_000, b"k", value, headers)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({}, ""),
        ({"key": "k", "match": {"a": 1}, "where": "value.a == `1`", "headers": {"h": 1}}, ""),
        ({"key": "x"}, 'key: expected "x", found "k"'),
        ({"match": {"a": 2}}, "$.a: expected 2, found 1"),
        ({"where": "value.b"}, "where: value.b is null"),
        ({"where": "contains(value.a, 'x')"}, "where: contains(value.a, 'x') is null"),
        ({"headers": {"h": 2}}, "the header h is not 2"),
        ({"raw": '{"a":1}'}, ""),
        ({"raw": "{}"}, 'raw: expected "{}", found "{\\"a\\":1}"'),
        ({"reason": "schema"}, 'reason: expected "schema", found null'),
    ],
)
def test_records(spec: dict[str, Any], why: str) -> None:
    assert judge_record(spec, record(b'{"a":1}', (("h", b"1"),)), "t") == why


def test_letters_and_what_is_no_json() -> None:
    said = {"id": "g/t/0/1", "reason": "decode", "handler": "pay"}
    letter = record(b"\xff{", tuple((f"kpipe-dlq-{name}", text.encode()) for name, text in said.items()))
    assert judge_record({"reason": "decode", "handler": "pay", "where": "letter.reason == 'decode'"}, letter, "t") == ""
    assert judge_record({"handler": "see"}, letter, "t") == 'handler: expected "see", found "pay"'
    assert judge_record({"match": {}}, letter, "t") == "$: expected an object, found null"


def test_responses() -> None:
    response = {"status": 201, "headers": {}, "json": {"id": 7}, "text": ""}
    assert judge_response({}, response) == judge_response({"status": 201, "match": {"id": 7}}, response) == ""
    assert judge_response({"status": 200}, response) == 'status: expected 200, found 201: {"id":7}'
    assert judge_response({"where": "status == `200`"}, response) == "where: status == `200` is false"
    assert judge_response({}, response | {"status": 404}).startswith("status: expected 2xx, found 404")


def test_expressions() -> None:
    assert check_expression("value.a > `1`") == ""
    assert "nope()" in check_expression("nope(value)") and check_expression("a ===")
    assert ask("json.items[0]", {"json": {"items": [4]}}) == 4
    assert ask("length(json)", {"json": None}) is None


def test_junit_says_all_even_what_xml_cannot(tmp_path: Any) -> None:
    mark = Mark("smoke.yaml", 3, 5)
    scenarios = [Scenario(f"n\x00 <{n}>", (), {}, mark) for n in range(3)]
    step = ScenarioStep("expect", {}, {}, 1.0, Mark("smoke.yaml", 9, 7))
    verdicts = [
        Verdict(scenarios[0], 1.5),
        Verdict(scenarios[1], 2.0, failed=step, why='"\x1b]]>&\ud800', close=("c\x08",)),
    ]
    path = tmp_path / "new" / "junit.xml"
    write_junit(path, "p & q", verdicts, scenarios, 4.0, "Kafka is away\nstart it")
    suite = XML.parse(path).getroot()[0]
    assert {k: suite.attrib[k] for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3", "failures": "1", "errors": "1", "skipped": "0",
    }  # fmt: skip
    passed, failed, unreached = suite
    assert len(passed) == 0 and passed.attrib["classname"] == "smoke" and passed.attrib["time"] == "1.500"
    assert failed[0].tag == "failure" and "\\u001b]]>&" in failed[0].attrib["message"]
    assert "smoke.yaml:9:7" in (failed[0].text or "") and "c\\u0008" in (failed[0].text or "")
    assert unreached[0].tag == "error" and unreached[0].attrib["message"] == "Kafka is away"
