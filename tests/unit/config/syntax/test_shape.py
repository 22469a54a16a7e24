"""The grammar's findings: where they stand, and that they are in the user's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.config import document, found, only

HEAD = "kpipe: 1\npipeline: p\n"

ROWS = [
    # text after the head
    #     code, line, column, message, hint
    ("kafka:\n  consumer: [a]\n",
     "type", 4, 13, "kafka.consumer: expected a mapping, got a list", ""),
    ("kafka: {bootstrap: 9092}\n",
     "type", 3, 20, "kafka.bootstrap: expected text, got the number 9092", "put it in quotes"),
    ("kafka: {bootstrap: }\n",
     "type", 3, 19, "kafka.bootstrap: has no value: expected text", "write one, or remove the key"),
    ("tpoics: {}\n",
     "unknown-key", 3, 1, "tpoics: unknown key", "did you mean `topics`?"),
    ("topics: {t: {partition: 3}}\n",
     "unknown-key", 3, 14, "topics.t.partition: unknown key", "did you mean `partitions`?"),
    ("topics: {t: {foo: 3}}\n",
     "unknown-key", 3, 14, "topics.t.foo: unknown key", "known here: schema, key, dlq"),
    ("topics: {t: 3}\n",
     "type", 3, 13, "topics.t: expected a mapping, got the number 3", ""),
    ("topics: {t: {partitions: '3'}}\n",
     "type", 3, 26, "expected a whole number, got the text `3`", "remove the quotes"),
    ("topics: {t: {partitions: 1.5}}\n",
     "type", 3, 26, "expected a whole number, got the number 1.5", ""),
    ("topics: {t: {partitions: 0}}\n",
     "value", 3, 26, "expected at least 1, got the number 0", ""),
    ("topics: {t: {partitions: -1}}\n",
     "value", 3, 26, "expected at least 1, got the number -1", ""),
    ("topics: {t: {partitions: 100001}}\n",
     "value", 3, 26, "expected at most 100000", ""),
    ("topics: {t: {cleanup: compacted}}\n",
     "value", 3, 23, "expected `delete`, `compact` or `compact,delete`", "did you mean `compact`?"),
    ("topics: {t: {key: ''}}\n",
     "value", 3, 19, "topics.t.key: is empty", ""),
    ("topics: {t: {configs: {a: [1]}}}\n",
     "type", 3, 27, "expected text or a number or true or false, got a list", ""),
    ("handlers: {h: {service: x, essential: yes}}\n",
     "type", 3, 39, "expected true or false, got the text `yes`", "write `true`"),
    ("handlers: {h: {service: x, restart: no}}\n",
     "type", 3, 37, "expected true or false, got the text `no`", "write `false`"),
    ("handlers: {h: {service: x, port: 70000}}\n",
     "value", 3, 34, "expected at most 65535, got the number 70000", ""),
    ("handlers: {h: {service: x, ready: {http: /}}}\n",
     "missing-key", 3, 12, "`port` is missing", "listens on"),
    ("handlers: {h: {service: ' '}}\n",
     "value", 3, 25, "expected a command", ""),
    ("handlers: {h: {service: x, produces: t}}\n",
     "type", 3, 38, "expected a list, got the text `t`", "write [t]"),
    ("handlers: {h: {service: x, dedup: off}}\n",
     "misplaced-key", 3, 28, "handlers.h.dedup: does not apply to a service", "remove it"),
    ("handlers: {h: {service: x, env: {A B: 1}}}\n",
     "name", 3, 34, "has to be letters, digits and `_`", ""),
    ("handlers: {H: {service: x}}\n",
     "name", 3, 12, "has to be lower-case letters, digits and `-`", ""),
    ("handlers: {h: {consumes: [a]}}\ntopics: {a: {dlq: b}}\n",
     "handler-kind", 3, 12, "this one has none of them", "python:"),
    ("handlers: {h: {python: a:b, service: x}}\n",
     "handler-kind", 3, 12, "this one has `python` and `service`", ""),
    ("handlers: {h: {python: a:b}}\n",
     "missing-key", 3, 12, "a handler that is not a service needs `consumes`", "topics"),
    ("handlers: {h: {python: a:b, consumes: []}}\n",
     "value", 3, 39, "handlers.h.consumes: is empty", ""),
    ("handlers: {h: {python: a.b, consumes: [t], dlq: none}}\ntopics: {t: }\n",
     "value", 3, 24, "expected `module:function`", ""),
    ("handlers: {h: {python: 'a:b()', consumes: [t], dlq: none}}\ntopics: {t: }\n",
     "value", 3, 24, "expected `module:function`", ""),
    ("handlers: {h: {python: a:b, consumes: [t, t], dlq: none}}\ntopics: {t: }\n",
     "value", 3, 43, "`t` is in the list twice", ""),
    ("handlers: {h: {python: a:b, consumes: [t], dlq: none, port: 1}}\ntopics: {t: }\n",
     "misplaced-key", 3, 55, "applies to a `service` only", ""),
    ("handlers: {h: {python: a:b, consumes: [t], dlq: none, dedup: false}}\ntopics: {t: }\n",
     "type", 3, 62, "expected `off` or a mapping with `by` and `window`, got false", "write `off`"),
    ("handlers: {h: {python: a:b, consumes: [t], dlq: none, dedup: {bye: x}}}\ntopics: {t: }\n",
     "unknown-key", 3, 63, "handlers.h.dedup.bye: unknown key", "did you mean `by`?"),
    ("handlers: {h: {python: a:b, consumes: [t], dlq: none, unavailable: [E]}}\ntopics: {t: }\n",
     "value", 3, 69, "expected `module:Class`", ""),
    ("events: {e: {}}\n",
     "missing-key", 3, 10, "`topic` is missing", "sent to"),
    ("events: {e: {topic: t, generate: {a: guid}}}\ntopics: {t: }\n",
     "value", 3, 38, "expected `uuid` or `now`", "did you mean `uuid`?"),
    ("defaults: {handler: {group: x}}\n",
     "unknown-key", 3, 22, "defaults.handler.group: unknown key", "known here"),
    ("namespace: a b\n",
     "value", 3, 12, "expected letters, digits, `.`, `_` and `-`", ""),
    ("namespace: .a\n",
     "value", 3, 12, "not beginning with `.`", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "line", "column", "message", "hint"), ROWS)
def test_one_mistake_is_one_finding(
    tmp_path: Path, text: str, code: str, line: int, column: int, message: str, hint: str
) -> None:
    finding = only(found(tmp_path, HEAD + text))
    assert (finding.code, finding.line, finding.column) == (code, line, column)
    assert message in finding.message and hint in finding.hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("30", "write 30s"),
        ("604800000", "write 7d"),
        ("1500", "write 1500ms"),
        ("1.5", "write 1500ms"),
        ("'30'", "write 30s"),
        ("30 s", "write 30s"),
        ("30sec", "write 30s"),
        ("5 Minutes", "write 5m"),
        ("1.5h", "write 90m"),
        ("1h30m", "units: ms, s, m, h, d"),
        ("forever", "write unlimited"),
        ("-1", "units: ms"),
        ("0s", "units: ms"),
        ("true", ""),
    ],
)
def test_a_duration_without_its_unit_comes_with_the_fix(tmp_path: Path, value: str, hint: str) -> None:
    finding = only(found(tmp_path, f"{HEAD}topics: {{t: {{retention: {value}}}}}\n"))
    assert finding.code in ("unit", "type") and (finding.line, finding.column) == (3, 25)
    assert hint in finding.hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("512", "write 512B"),
        ("1000000", "write 1MB"),
        ("1048576", "write 1MiB"),
        ("1.5GB", "write 1500MB"),
        ("5mb", "write 5MB"),
    ],
)
def test_a_size_without_its_unit_comes_with_the_fix(tmp_path: Path, value: str, hint: str) -> None:
    findings = found(tmp_path, f"{HEAD}defaults: {{handler: {{memory: {value}}}}}\n")
    assert hint in only(findings).hint


def test_what_is_missing_at_the_top_is_said_at_the_top(tmp_path: Path) -> None:
    findings = found(tmp_path, "topics: {}\n")
    assert [(f.code, f.line, f.column) for f in findings] == [("missing-key", 1, 1)] * 2
    assert {f.message for f in findings} == {"the file: `kpipe` is missing", "the file: `pipeline` is missing"}


@pytest.mark.parametrize("version", ["2", "'1'", "1.1"])
def test_another_version_of_the_format_is_refused(tmp_path: Path, version: str) -> None:
    finding = found(tmp_path, f"kpipe: {version}\npipeline: p\n")[0]
    assert (finding.line, finding.column) == (1, 8) and "expected" in finding.message


def test_keys_of_ones_own_and_anchors_are_fine(tmp_path: Path) -> None:
    text = HEAD + "x-topic: &t {partitions: 2}\ntopics: {a: *t, b: {<<: *t, key: id}}\n"
    assert found(tmp_path, text) == []


def test_everything_wrong_is_found_at_once_and_sorted(tmp_path: Path) -> None:
    text = "kpipe: 1\npipeline: P\na: 1\na: 2\nnamespace: ${X}\ntopics: {t: {partitions: x, dlq: t}, t_1: , t.1: }\n"
    findings = found(tmp_path, text)
    assert [(f.line, f.column, f.code) for f in findings] == [
        (2, 11, "value"),
        (3, 1, "unknown-key"),
        (4, 1, "duplicate-key"),
        (5, 12, "interpolation"),
        (6, 26, "type"),
        (6, 34, "dlq-circle"),
        (6, 45, "topic-collision"),
    ]


def test_a_refused_value_causes_no_second_finding(tmp_path: Path) -> None:
    handlers = {"h": {"python": "a:b", "consumes": ["t", "gone"], "dlq": 7}, "i": {"python": "a:b", "consumes": ["t"]}}
    findings = found(tmp_path, document(topics={"t": {"dlq": ["x"]}}, handlers=handlers))
    assert [f.code for f in findings] == ["type", "type"]


def test_words_of_json_schema_reach_nobody(tmp_path: Path) -> None:
    for text, *_ in ROWS:
        for finding in found(tmp_path, HEAD + text):
            for word in (
                "schemas listed",
                "valid under",
                "additional properties",
                "is not of type",
                "required property",
            ):
                assert word not in (finding.message + finding.hint).lower()
