"""Smoke files: what is wrong with them, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.model import Handler, KafkaSettings, Pipeline, Topic
from orchestrator.config.scenarios import Smoke, load_smoke, smoke_files

TOPICS = {
    "orders": Topic("orders", "orders", 1, 1, {}, dlq="orders.dlq"),
    "orders.dlq": Topic("orders.dlq", "orders.dlq", 1, 1, {}, is_dlq=True),
}
PIPELINE = Pipeline(
    "p", "", Path(), KafkaSettings(), TOPICS, {},
    {
        "pay": Handler("pay", "python", "x:y", "p.pay", consumes=("orders",)),
        "api": Handler("api", "service", "x", "p.api", port=80),
    },
)  # fmt: skip

LATTER = "{expect: {topic: orders}, capture: {later: value.id}}\n      - absent: {topic: orders, key: '${latter}'}"


def read(tmp_path: Path, *steps: str, pipeline: Pipeline | None = PIPELINE) -> Smoke:
    path = tmp_path / "smoke.yaml"
    lines = [
        "smoke: 1",
        "scenarios:",
        "  a:",
        "    generate: {id: uuid}",
        "    steps:",
        *(f"      - {step}" for step in steps),
    ]
    path.write_text("\n".join(lines) + "\n")
    return load_smoke([path], pipeline, {"HOME": "/h"}, lambda text: "bad" if text == "((" else "")


def test_a_good_file(tmp_path: Path) -> None:
    smoke = read(
        tmp_path,
        "send: {topic: orders, value: {id: '${id}', home: '${HOME}', none: '${NONE:-d}', cash: $$5}}",
        "{expect: {topic: orders, count: 2}, capture: {first: value.id}, within: 2s}",
        "http: {handler: api, path: '/${first}', status: 404}",
        "accounting: {pay: {done: 1}}",
    )
    assert smoke.findings == ()
    [scenario] = smoke.scenarios
    assert [(step.kind, step.within) for step in scenario.steps] == [
        ("send", 15.0),
        ("expect", 2.0),
        ("http", 15.0),
        ("accounting", 15.0),
    ]
    assert (scenario.mark.line, scenario.steps[1].mark.line, scenario.steps[1].capture) == (3, 7, {"first": "value.id"})


@pytest.mark.parametrize(
    ("step", "column", "code", "words"),
    [
        ("send: {topic: ordres}", 23, "unknown-name", "did you mean `orders`?"),
        ("send: {event: order}", 23, "unknown-name", "no event `order`"),
        ("send: {topic: orders, event: x}", 9, "step-kind", "exactly one of `event` and `topic`"),
        ("http: {handler: pay}", 25, "unknown-name", "it has api"),
        ("http: {handler: api, path: x}", 36, "value", "begins with `/`"),
        ("expect: {dlq: orders}", 23, "unknown-name", "did you mean `orders.dlq`?"),
        ("expect: {topic: orders, where: '(('}", 40, "expression", "bad"),
        ("expect: {topic: orders, key: '${later}'}", 38, "reference", "`later` is not known here"),
        (LATTER, 38, "reference", "did you mean `later`?"),
        ("expect: {topic: orders, count: 0}", 40, "value", "at least 1"),
        ("{absent: {topic: orders}, within: 5}", 43, "unit", "write 5s"),
        ("accounting: {api: {done: 1}}", 22, "unknown-name", "it has pay"),
        ("accounting: {pay: {gone: 1}}", 28, "unknown-key", "did you mean `done`?"),
        ("wait: 5s", 9, "unknown-key", "did you mean `within`?"),
    ],
)  # fmt: skip
def test_findings_say_where(tmp_path: Path, step: str, column: int, code: str, words: str) -> None:
    smoke = read(tmp_path, step)
    assert smoke.scenarios == ()
    found = smoke.findings[0]
    assert (found.line, found.column, found.code) == (6 + step.count("\n"), column, code)
    assert words in f"{found.message} {found.hint}"


def test_all_findings_at_once_and_those_of_yaml(tmp_path: Path) -> None:
    assert (
        len(read(tmp_path, "{}", "send: {topic: nope}", "{expect: {topic: orders, key: '${a}'}, within: 1}").findings)
        == 4
    )
    for text, code in (
        ("", "empty"),
        ("smoke: 1\nsmoke: 1\nscenarios: {}", "duplicate-key"),
        ("[]", "type"),
        ("a: &a [*b]", "alias"),
    ):
        (tmp_path / "smoke.yaml").write_text(text)
        found = load_smoke([tmp_path / "smoke.yaml"], PIPELINE, {}, lambda _: "").findings
        assert found[0].code == code and "kpipe: 1" not in found[0].hint
    [missing] = load_smoke([tmp_path / "none.yaml"], PIPELINE, {}, lambda _: "").findings
    assert missing.code == "missing-file"


def test_without_a_pipeline_names_are_not_looked_up(tmp_path: Path) -> None:
    assert read(tmp_path, "send: {topic: anything}", pipeline=None).findings == ()


def test_where_smoke_files_are(tmp_path: Path) -> None:
    assert smoke_files(tmp_path, {}) == []
    (tmp_path / "smoke").mkdir()
    for name in ("smoke/b.yaml", "smoke/a.yaml", "smoke/note.md", "smoke.yaml"):
        (tmp_path / name).touch()
    assert [str(p.relative_to(tmp_path)) for p in smoke_files(tmp_path, {})] == [
        "smoke.yaml",
        "smoke/a.yaml",
        "smoke/b.yaml",
    ]


@pytest.mark.parametrize(("name", "code"), [("KPIPE_ALLOW_PROPERTIES", "env"), ("no name", "name")])
def test_variables_that_a_smoke_file_cannot_set(tmp_path: Path, name: str, code: str) -> None:
    """What the user's environment alone decides, a file of somebody else must not."""
    path = tmp_path / "smoke.yaml"
    path.write_text(f"smoke: 1\nenv: {{{name}: x}}\nscenarios: {{}}\n")
    [finding] = load_smoke([path], PIPELINE, {}, lambda text: "").findings
    assert (finding.code, finding.line, finding.column) == (code, 2, 7)
