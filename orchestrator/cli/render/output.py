"""All printing of the command line: data on stdout, everything else on stderr.

Colour only on a terminal, and not with `--no-color`, `NO_COLOR` (https://no-color.org) or `TERM=dumb`.
`data`, `say` and `write` print what they are given; text that came out of Kafka, of a file or of a program
goes through `safe` first. `error`, `finding_text`, `table` and the JSON functions do that themselves.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from orchestrator.errors import ContractError, FindingsError, KpipeError
from orchestrator.text import dumps as dumps
from orchestrator.text import json_safe as json_safe
from orchestrator.text import safe as safe

if TYPE_CHECKING:
    from orchestrator.records import Finding

Style = Literal["bold", "dim", "red", "green", "yellow", "blue", "magenta", "cyan"]
_CODES: dict[Style, int] = {
    "bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36,
}  # fmt: skip


@dataclass
class OutputMode:
    """How one call of `kpipe` prints. `in_place`: the last line on stderr is one that the next replaces."""

    color: bool = True
    json: bool = False
    in_place: bool = False


_mode = OutputMode()


def use(mode: OutputMode) -> None:
    """Print in this mode from now on: that of the command's context."""
    global _mode
    _mode = mode


def prepare() -> None:
    """Never fail over a character that a stream's encoding lacks, or over a stream that the shell closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def data(*texts: str) -> None:
    """Lines (or blocks) of the command's result: those of one call in one piece."""
    write("".join([f"{text}\n" for text in texts]).encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def write(raw: bytes) -> None:
    """Bytes of the command's result exactly as they are.

    A terminal gets them at once; a pipe or file when the buffer is full, at `flush`, or at the end.
    """
    sys.stdout.buffer.write(raw)
    if is_terminal():
        sys.stdout.flush()


def json_line(obj: Any) -> None:
    """One JSON value on one line of stdout, in UTF-8 whatever the locale."""
    json_text(dumps(obj))


def json_text(*texts: str) -> None:
    """Lines of JSON that is text already, such as a record's own value with its numbers untouched."""
    write("".join([f"{json_safe(text)}\n" for text in texts]).encode())


def flush() -> None:
    """Give what was printed to whoever reads it: streams call this when they are about to wait."""
    sys.stdout.flush()


def check_reader() -> None:
    """Raise BrokenPipeError when nobody reads stdout any more, also while there is nothing to write.

    So `kpipe tail -f … | head -1` ends with `head`, and not with the record after it.
    """
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not is_terminal() and any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def movable() -> bool:
    """Whether stdout is a terminal on which lines can be replaced."""
    return is_terminal() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """One line for the person at the terminal: progress, warnings, the next command."""
    _to_stderr(text)


def in_place(text: str) -> None:
    """A line on stderr that the next one replaces, for progress; shown only where `animated` says so."""
    if animated():
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()
        _mode.in_place = bool(text)


def animated() -> bool:
    """Whether stderr is a terminal on which things may move."""
    return colored(sys.stderr)


def error(problem: KpipeError) -> None:
    """An error and what to do about it; with `--json` one line of JSON (docs/json.md)."""
    if _mode.json:
        _to_stderr(json_safe(dumps({"error": _as_json(problem)})))
        return
    if isinstance(problem, FindingsError):
        for finding in problem.findings:
            _to_stderr(finding_text(finding, stream=sys.stderr))
    _to_stderr(f"{paint('error:', 'red', 'bold', stream=sys.stderr)} {safe(problem.message, lines=True)}")
    if isinstance(problem, ContractError):
        for path, reason in problem.violations:
            _to_stderr(f"  {safe(path)}: {safe(reason)}")
    if problem.hint:
        _to_stderr(f"{paint('hint:', 'cyan', stream=sys.stderr)} {safe(problem.hint, lines=True)}")


def finding_text(finding: Finding, *, stream: IO[str] | None = None) -> str:
    """`file:line:column: error: message`, and its hint on a line of its own."""
    word = paint(f"{finding.severity}:", "red" if finding.severity == "error" else "yellow", stream=stream)
    text = f"{safe(finding.place)}: {word} {safe(finding.message)}"
    return text + (f"\n  hint: {safe(finding.hint)}" if finding.hint else "")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns on stdout with their names on top; None is shown as `-`."""
    head, *lines = table_lines(columns, rows)
    data(paint(head, "bold"))
    for line in lines:
        data(line)


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The same as lines without colours: the names of the columns, then one line for each row."""
    cells = [["-" if cell is None else safe(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    return [_aligned(row, widths) for row in (columns, *cells)]


def colored(stream: IO[str] | None = None) -> bool:
    """Whether `stream` (stdout unless told) gets colours."""
    if not _mode.color or not (stream or sys.stdout).isatty():
        return False
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, *styles: Style, stream: IO[str] | None = None) -> str:
    """`text` in these styles where `stream` (stdout unless told) gets colours, else as it is."""
    if not styles or not colored(stream):
        return text
    return f"\x1b[{';'.join(str(_CODES[style]) for style in styles)}m{text}\x1b[0m"


def _to_stderr(text: str) -> None:
    # What is on stdout comes first, so that the two read in order where both are the same terminal.
    sys.stdout.flush()
    sys.stderr.write(("\r\x1b[2K" if _mode.in_place else "") + text + "\n")
    sys.stderr.flush()
    _mode.in_place = False


def _as_json(problem: KpipeError) -> dict[str, object]:
    body: dict[str, object] = {
        "message": problem.message,
        "hint": problem.hint,
        "exit_code": problem.exit_code,
    }
    if isinstance(problem, FindingsError):
        body["findings"] = [finding.as_json() for finding in problem.findings]
    if isinstance(problem, ContractError):
        body["violations"] = [{"path": path, "message": reason} for path, reason in problem.violations]
    return body


def _width(text: str) -> int:
    import unicodedata

    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return "   ".join(padded).rstrip()
