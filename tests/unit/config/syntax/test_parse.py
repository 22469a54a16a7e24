"""YAML text to nodes: positions, duplicate keys, aliases, and everything that is not YAML."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config.syntax.nodes import MapNode
from orchestrator.config.syntax.parse import MAX_BYTES, parse
from orchestrator.config.syntax.values import plain
from orchestrator.records import Finding


def tree(text: str) -> Any:
    root, findings = parse(text.encode(), "p.yaml")
    assert root is not None and not findings, findings
    return plain(root, [])


def finding(raw: bytes | str) -> Finding:
    _, findings = parse(raw.encode() if isinstance(raw, str) else raw, "p.yaml")
    assert len(findings) == 1, findings
    assert findings[0].file == "p.yaml" and findings[0].severity == "error"
    return findings[0]


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "message"),
    [
        ("", "empty", 0, 0, "empty"),
        ("# only a comment\n", "empty", 0, 0, "empty"),
        ("---\n", "empty", 0, 0, "empty"),
        ("a: 1\n---\nb: 2\n", "documents", 2, 1, "second YAML document"),
        ("- a\n", "type", 1, 1, "a list"),
        ("just text\n", "type", 1, 1, "got text"),
        ("a:\n\tb: 1\n", "yaml", 2, 1, "a tab"),
        ("a: [1\n", "yaml", 2, 1, "not valid YAML"),
        ("a: b: c\n", "yaml", 1, 5, "mapping values are not allowed"),
        ("a: 1\nb: \x07\n", "yaml", 2, 4, "control character"),
        ('a: "\\UFFFFFFFF"\n', "yaml", 1, 1, "out of range"),
        ('a: "\\0"\n', "text", 1, 4, "NUL"),
        ('a: "\\ud800"\n', "text", 1, 4, "surrogate"),
        ("a: *b\n", "alias", 1, 4, "*b"),
        ("a: &a [*a]\n", "alias", 1, 8, "*a"),
        ("a: !include x\n", "tag", 1, 4, "!include"),
        ("a: !!python/object:os.system x\n", "tag", 1, 4, "!!python/object:os.system"),
        ("a: !!binary aGk=\n", "tag", 1, 4, "!!binary"),
        ("? [a]\n: b\n", "key", 1, 3, "a list"),
        ("? \n: b\n", "key", 1, 2, "nothing"),
        ("b: &b [1]\na:\n  <<: *b\n", "merge-key", 3, 3, "merges mappings"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, code: str, line: int, column: int, message: str) -> None:
    got = finding(text)
    assert (got.code, got.line, got.column) == (code, line, column)
    assert message in got.message


def test_bytes_that_are_not_utf8_are_found_where_they_stand() -> None:
    got = finding("a: 1\nbé: ".encode() + b"\xff\n")
    assert (got.code, got.line, got.column) == ("encoding", 2, 5)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    root, findings = parse("\ufeffa: 1\n".encode(), "p.yaml")
    assert root is not None and list(root.entries) == ["a"] and not findings


def test_utf16_is_not_utf8() -> None:
    assert finding("a: 1\n".encode("utf-16")).code == "encoding"


def test_every_duplicate_key_is_found_and_the_first_one_counts() -> None:
    root, findings = parse(b"a: 1\nb: {c: 1, c: 2}\na: 3\n", "p.yaml")
    assert [(f.code, f.line, f.column) for f in findings] == [("duplicate-key", 2, 11), ("duplicate-key", 3, 1)]
    assert "line 1" in findings[1].message
    assert root is not None and plain(root, []) == {"a": 1, "b": {"c": 1}}


def test_positions_are_those_of_keys_and_values() -> None:
    root, _ = parse(b"# comment\nab:\n  - x\n  - {k: v}\n", "p.yaml")
    assert root is not None
    entry = root.entries["ab"]
    assert tuple(entry.key) == ("p.yaml", 2, 1)
    assert entry.value.mark[1:] == (3, 3)
    inner = entry.value.items[1]  # type: ignore[union-attr]
    assert isinstance(inner, MapNode)
    assert inner.entries["k"].value.mark[1:] == (4, 9)


def test_json_is_yaml_with_its_surrogate_pairs() -> None:
    assert tree('{"a": "\\ud83d\\ude00", "b": [true, null, 1.5]}') == {"a": "😀", "b": [True, None, 1.5]}


def test_anchors_aliases_and_merge_keys_work() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {c: 3}\nz: {<<: *x, b: 9}\nw: {<<: [*y, *x]}\nv: *x\n"
    assert tree(text) == {
        "x": {"a": 1, "b": 2},
        "y": {"c": 3},
        "z": {"a": 1, "b": 9},
        "w": {"a": 1, "b": 2, "c": 3},
        "v": {"a": 1, "b": 2},
    }


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    assert tree("a: {'<<': 1}") == {"a": {"<<": 1}}


def test_alias_bombs_end_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert finding("\n".join(lines)).code == "too-large"


def test_merge_bombs_and_repeated_texts_end_early() -> None:
    keys = ", ".join(f"k{n}: 0" for n in range(10_000))
    merged = f"a: &a {{{keys}}}\nb:\n" + "- {<<: *a}\n" * 1_000
    texts = f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 1_000)}]\n"
    for text in (merged, texts):
        root, findings = parse(text.encode(), "f")
        assert root is None and [finding.code for finding in findings] == ["too-large"]


def test_deep_nesting_ends_early_also_through_aliases() -> None:
    assert finding("a: " + "[" * 5000).code == "too-deep"
    chain = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100)]
    assert finding("\n".join(chain)).code == "too-deep"


def test_a_file_of_more_than_a_megabyte_is_not_read() -> None:
    assert finding(b"a: " + b"x" * MAX_BYTES).code == "too-large"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(word, word) for word in ("on", "off", "yes", "no", "y", "n", "On", "NO")],
        *[
            (word, word)
            for word in ("010", "0x1F", "0o17", "1_000", "12:30", "2024-01-01", ".inf", ".nan", "=", "1.2.3")
        ],
        *[("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("0", 0), ("-7", -7), ("+7", 7)],
        *[
            ("1.5", 1.5),
            ("1e3", 1000.0),
            ("'1'", "1"),
            ('"true"', "true"),
            ("''", ""),
            ("!!str 1", "1"),
            ("!!int 1", 1),
        ],
        *[("9" * 18, int("9" * 18)), ("9" * 19, "9" * 19), ("1e400", "1e400")],
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    got = tree(f"a: {text}")["a"]
    assert got == value and type(got) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    assert tree("on: 1\nno: 2\n1: 3\ntrue: 4\n1.50: 5\n") == {"on": 1, "no": 2, "1": 3, "true": 4, "1.50": 5}
