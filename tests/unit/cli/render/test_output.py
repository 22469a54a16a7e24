"""What reaches a terminal: never a control character of somebody else, and colour only where it belongs."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.cli.render import output
from orchestrator.errors import ContractError, FindingsError, UsageError
from orchestrator.records import Finding

any_text = st.text(st.characters(), max_size=50)


class Terminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as stdout and stderr. No fixture: pytest sets its own streams again before the test runs."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    output.use(output.OutputMode(color=True, json=False))
    return screen


@given(any_text)
@example("".join(map(chr, range(0x110000))))
def test_safe_text_has_nothing_that_acts_on_a_terminal(text: str) -> None:
    for char in output.safe(text):
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"), hex(ord(char))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x7f", r"\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("Zürich 東京 🙂", "Zürich 東京 🙂"),
    ],
)
def test_safe_text_shows_what_was_there(text: str, shown: str) -> None:
    assert output.safe(text) == shown


def test_lines_and_tabs_can_be_kept() -> None:
    assert output.safe("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


@given(any_text)
def test_escaped_json_says_the_same(text: str) -> None:
    escaped = output.json_safe(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(escaped) == {text: [text]}
    assert output.safe(escaped) == escaped


def test_a_json_line_is_utf8_without_a_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    output.json_line({"name": "Zürich\x9b\u202e"})
    assert screen.shown == '{"name":"Zürich\\u009b\\u202e"}\n'


@pytest.mark.parametrize(
    ("name", "value", "colored"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False), ("NO_COLOR", "", True)],
)
def test_colour_follows_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, colored: bool) -> None:
    terminal(monkeypatch)
    monkeypatch.setenv(name, value)
    assert (output.paint("x", "red") == "\x1b[31mx\x1b[0m") is colored


def test_no_color_is_an_option_too(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    output.use(output.OutputMode(color=False, json=False))
    assert output.paint("x", "red", "bold") == "x"


def test_pipes_get_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    output.use(output.OutputMode(color=True, json=False))
    assert output.paint("x", "red") == "x"


def test_a_table_is_aligned_and_safe(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.table(["NAME", "LAG"], [["東京", None], ["a\x1b[2J", 12]])
    output.flush()
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        "NAME       LAG",
        "東京       -",
        r"a\x1b[2J   12",
    ]


def test_an_empty_table_has_its_header(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output.table(["NAME", "LAG"], [])
    output.flush()
    assert capsysbinary.readouterr().out == b"NAME   LAG\n"


FINDING = Finding("error", "unknown-key", "pipeline.yaml", 4, 7, "unknown key `topic\x1b`", "did you mean `topics`?")


def test_findings_are_all_printed_with_place_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    whole_file = Finding("warning", "empty", "other.yaml", 0, 0, "nothing in here")
    output.use(output.OutputMode(color=True, json=False))
    output.error(FindingsError([FINDING, whole_file]))
    assert capsys.readouterr().err.splitlines() == [
        r"pipeline.yaml:4:7: error: unknown key `topic\x1b`",
        "  hint: did you mean `topics`?",
        "other.yaml: warning: nothing in here",
        "error: 1 error in the pipeline file",
    ]


def test_errors_are_json_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    output.use(output.OutputMode(color=True, json=True))
    output.error(FindingsError([FINDING]))
    output.error(ContractError("broken", [("$.amount", "is required")], "repair it"))
    findings, contract = map(json.loads, capsys.readouterr().err.splitlines())
    assert findings["error"]["findings"] == [
        {
            "severity": "error",
            "code": "unknown-key",
            "file": "pipeline.yaml",
            "line": 4,
            "column": 7,
            "message": "unknown key `topic\x1b`",
            "hint": "did you mean `topics`?",
        }
    ]
    assert contract == {
        "error": {
            "message": "broken",
            "hint": "repair it",
            "exit_code": 2,
            "violations": [{"path": "$.amount", "message": "is required"}],
        }
    }
    output.use(output.OutputMode(color=True, json=False))


def test_an_error_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.error(UsageError("no topic `\x1b[31m`", "two\nlines"))
    assert capsys.readouterr().err == "error: no topic `\\x1b[31m`\nhint: two\nlines\n"


def test_a_stream_that_lacks_a_character_shows_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    output.prepare()
    output.data("Zürich")
    output.flush()
    assert isinstance(narrow.buffer, io.BytesIO)
    assert narrow.buffer.getvalue() == b"Z\\xfcrich\n"
