"""From the bytes that a child writes to lines of text that are safe to print. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

#: A longer line is cut into pieces of this many bytes; nothing of it is lost.
LONGEST_LINE = 65_536

# What a terminal acts on instead of showing it: C0 except the tab, DEL, C1, and the marks that turn the direction
# of text around (CVE-2021-42574). Code points that no encoding carries cannot come out of bytes.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Line(NamedTuple):
    """One line without its end; `partial` when the line goes on in the next one."""

    text: str
    partial: bool = False


class LineBuffer:
    """Collects what was read until a line is complete."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest = b""

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` completes."""
        *complete, rest = (self._rest + data).split(b"\n")
        lines: list[Line] = []
        for raw in complete:
            lines += self._whole(raw)
        self._rest, pieces = self._cut(rest)
        return lines + pieces

    def close(self) -> list[Line]:
        """What the child wrote last without ending the line."""
        rest, self._rest = self._rest, b""
        return self._whole(rest) if rest else []

    def _whole(self, raw: bytes) -> list[Line]:
        last, pieces = self._cut(raw.removesuffix(b"\r"))
        return [*pieces, Line(printable(last))]

    def _cut(self, raw: bytes) -> tuple[bytes, list[Line]]:
        """The last piece, which is not too long, and those before it."""
        pieces = []
        start = 0
        while len(raw) - start > self._longest:
            end = _before_character(raw, start + self._longest)
            pieces.append(Line(printable(raw[start:end]), partial=True))
            start = end
        return raw[start:], pieces


def printable(raw: bytes) -> str:
    """`raw` as text; what is not UTF-8, and what a terminal could act on, as escapes such as `\\xff` or `\\x1b`."""
    text = raw.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return _CONTROLS.sub(lambda found: _escape(ord(found[0])), text)


def _escape(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"


def _before_character(raw: bytes, at: int) -> int:
    """`at`, or the start of the UTF-8 sequence that a cut there would split."""
    for back in range(4):
        if raw[at - back] & 0xC0 != 0x80:
            return at - back
    return at
