"""References in values: what they become, what is refused, and what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.config import document, found, loaded, only


def bootstrap(folder: Path, text: str, **environ: str) -> str:
    result = loaded(folder, document(kafka={"bootstrap": text}), environ)
    assert result.pipeline is not None, result.findings
    return result.pipeline.kafka.bootstrap


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "alpha"),
        ("${A}:9092", "alpha:9092"),
        ("${A},${B}", "alpha,beta"),
        ("${MISSING:-fallback}", "fallback"),
        ("${MISSING:-}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${EMPTY}", ""),
        ("${A:-fallback}", "alpha"),
        ("${MISSING:-h:1}", "h:1"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$${A}", "$alpha"),
        ("$A", "$A"),
        ("a$", "a$"),
    ],
)
def test_references_are_replaced(tmp_path: Path, text: str, value: str) -> None:
    tree = document(handlers={"h": {"service": "x", "env": {"V": text}}})
    result = loaded(tmp_path, tree, {"A": "alpha", "B": "beta", "EMPTY": ""})
    assert result.pipeline is not None, result.findings
    assert result.pipeline.handlers["h"].env == {"V": value}


def test_a_value_is_never_read_as_a_reference_again(tmp_path: Path) -> None:
    assert bootstrap(tmp_path, "${A}", A="${B}-$$", B="no").startswith("${B}-$$")


@pytest.mark.parametrize("text", ["${N}", '"${N}"', "'${N}'", "${MISSING:-7}"])
def test_a_reference_can_be_a_number_where_one_is_expected(tmp_path: Path, text: str) -> None:
    result = loaded(tmp_path, f"kpipe: 1\npipeline: p\ntopics:\n  t:\n    partitions: {text}\n", {"N": "7"})
    assert result.pipeline is not None, result.findings
    assert result.pipeline.topics["t"].partitions == 7


def test_a_reference_can_be_a_boolean_and_stays_text_where_text_is_expected(tmp_path: Path) -> None:
    handlers = {"h": {"service": "${T}", "essential": "${T}", "env": {"V": "${T}"}}}
    result = loaded(tmp_path, document(handlers=handlers), {"T": "true"})
    assert result.pipeline is not None, result.findings
    handler = result.pipeline.handlers["h"]
    assert (handler.target, handler.essential, handler.env) == ("true", True, {"V": "true"})


def test_a_reference_to_what_is_no_number_is_shown_as_it_is_written(tmp_path: Path) -> None:
    finding = only(found(tmp_path, document(topics={"t": {"partitions": "${N}"}}), {"N": "hunter2"}))
    assert finding.message == "topics.t.partitions: expected a whole number, got `${N}`"


def test_text_from_a_file_loses_its_last_line_end_only(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "password").write_text("one\ntwo\r\n")
    tree = document(kafka={"client": {"sasl.password": "${file:secrets/password}"}})
    result = loaded(tmp_path, tree)
    assert result.pipeline is not None
    assert result.pipeline.kafka.client == {"sasl.password": "one\ntwo"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("${NOPE}", "`NOPE` is not defined", "${NOPE:-default}"),
        ("${NOPE", "without its `}`", "`$$`"),
        ("${1X}", "`${1X}` is no reference", "${NAME:-default}"),
        ("${}", "`${}` is no reference", "${NAME}"),
        ("${A:?why}", "is no reference", "${NAME}"),
        ("${NOPE:-${A}}", "is no reference", "${NAME}"),
        ("${file:nope}", "cannot read `nope`: No such file or directory", "folder"),
        ("${file:}", "cannot read ``: Is a directory", "folder"),
        ("${file:latin1}", "`latin1` is not UTF-8", ""),
        ("${NUL}", "the value of `NUL` is not text", ""),
        ("${BAD}", "the value of `BAD` is not text", ""),
        ("${file:large}", "cannot read `large`: it is larger than 1 MB", ""),
    ],
)
def test_what_cannot_be_replaced_is_one_finding(tmp_path: Path, text: str, message: str, hint: str) -> None:
    (tmp_path / "latin1").write_bytes(b"caf\xe9")
    (tmp_path / "large").write_bytes(b"x" * 1_000_001)
    environ = {"A": "a", "NUL": "a\0b", "BAD": b"\xff".decode("utf-8", "surrogateescape")}
    finding = only(found(tmp_path, document(pipeline=text), environ))
    assert (finding.code, finding.line, finding.column) == ("interpolation", 1, 26)
    assert message in finding.message and hint in finding.hint


def test_keys_are_not_interpolated(tmp_path: Path) -> None:
    finding = only([f for f in found(tmp_path, document(topics={"${A}": {}}), {"A": "x"}) if f.code == "interpolation"])
    assert "key `${A}`" in finding.message


def test_every_undefined_name_is_found_at_once(tmp_path: Path) -> None:
    tree = document(namespace="${X}", kafka={"bootstrap": "${Y}", "client": {"a": "${Z}-${X}"}})
    assert [finding.message.split("`")[1] for finding in found(tmp_path, tree)] == ["X", "Y", "X", "Z"]


SECRET = "hunter2"


@pytest.mark.parametrize(
    "tree",
    [
        document(pipeline="${S} X"),
        document(namespace="${S}!"),
        document(kafka={"bootstrap": "${S} a"}),
        document(kafka={"consumer": {"group.id": "${S}", "x.ms": "${S}"}, "admin": "${S}"}),
        document(defaults={"handler": {"timeout": "${S}", "dedup": "${S}"}}),
        document(topics={"a": {"dlq": "${S}/"}, "b": {"dlq": "${S}/"}}),
        document(topics={"a": {"schema": "${S}.json", "key": "${S}", "cleanup": "${S}", "configs": {"a.ms": "${S}"}}}),
        document(topics={"a": {}}, handlers={"h": {"python": "${S}", "consumes": ["${S}", "${S}"], "group": "${S}"}}),
        document(topics={"a": {}}, handlers={"h": {"python": "${S}:x y", "consumes": ["a"], "dlq": "a"}}),
        document(handlers={"h": {"service": "'${S}", "port": "${S}", "ready": {"http": "${S}"}, "env": "${S}"}}),
        document(events={"e": {"topic": "${S}", "example": "${S}", "generate": {"a": "${S}"}}}),
        document(handlers="${S}", topics=["${S}"], x="${S}"),
    ],
)
def test_no_finding_shows_what_came_from_the_environment(tmp_path: Path, tree: Any) -> None:
    findings = found(tmp_path, tree, {"S": SECRET})
    assert findings
    for finding in findings:
        assert SECRET not in finding.message + finding.hint


def test_a_derived_name_from_the_environment_is_suggested_to_nobody(tmp_path: Path) -> None:
    tree = document(
        topics={"a": {"dlq": "${S}"}}, handlers={"h": {"python": "m:f", "consumes": ["hunter3"], "dlq": "none"}}
    )
    finding = only(found(tmp_path, tree, {"S": SECRET}))
    assert finding.code == "unknown-topic" and SECRET not in finding.hint
