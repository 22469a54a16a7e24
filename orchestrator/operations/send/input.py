"""What `kpipe send` was told to send: `JSON`, `@file` or `-`, as one document or as JSON lines.

JSON lines are read one at a time and can be gone through again (once to check them, once to send them): however many
there are, one is in memory. What cannot be read twice (the standard input, a pipe) is kept in a temporary file.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from orchestrator.errors import UsageError
from orchestrator.operations.records import exact_json

#: Bytes of an input that cannot be read twice before they go to disk.
_IN_MEMORY = 8_000_000
_HINT = "--no-validate sends it as it stands, byte for byte"


class Raw(NamedTuple):
    """Bytes to be sent as they stand (`--no-validate` with something that is not JSON)."""

    value: bytes


class Documents:
    """The documents of one input, in their order, each time it is iterated.

    An input whose first line that is not blank is a document, with more lines after it, is JSON lines; any other is
    one document, however many lines it has.
    """

    def __init__(self, word: str, *, allow_raw: bool) -> None:
        """With `allow_raw` what is not JSON is one `Raw`. Raises UsageError for what cannot be read or used."""
        self._input, self._name = _open(word)
        self._whole: list[Any] | None = None
        if not self._is_lines():
            self._whole = [self._one(allow_raw)]
        elif allow_raw and not self._all_json():
            self._whole = [Raw(self._everything())]

    def __iter__(self) -> Iterator[Any]:
        return (document for _, document in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Any]]:
        """Each document with its line, counted from 1; 0 for a document that is the whole input.

        Raises UsageError for a line that is not JSON.
        """
        if self._whole is not None:
            yield from ((0, document) for document in self._whole)
            return
        for number, line in self._lines():
            yield number, self._parsed(number, line)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        self._input.seek(0)
        return ((number, line) for number, line in enumerate(self._input, 1) if line.strip())

    def _is_lines(self) -> bool:
        lines = self._lines()
        first = next(lines, None)
        return first is not None and _is_json(first[1]) and next(lines, None) is not None

    def _all_json(self) -> bool:
        return all(_is_json(line) for _, line in self._lines())

    def _parsed(self, number: int, line: bytes) -> Any:
        from orchestrator.contracts import Undecodable

        try:
            return exact_json.parse(line)
        except Undecodable as error:
            raise UsageError(f"line {number} of {self._name} is not JSON: {error.reason}", _HINT) from None

    def _one(self, allow_raw: bool) -> Any:
        from orchestrator.contracts import Undecodable

        raw = self._everything()
        try:
            return exact_json.parse(raw)
        except Undecodable as error:
            if not raw.strip():
                raise UsageError(f"{self._name} is empty", "give one JSON document, or one on each line") from None
            if allow_raw:
                return Raw(raw)
            raise UsageError(f"{self._name} is not JSON: {error.reason}", _HINT) from None

    def _everything(self) -> bytes:
        self._input.seek(0)
        return self._input.read()


def _is_json(raw: bytes) -> bool:
    from orchestrator.contracts import Undecodable, decode_json

    try:
        decode_json(raw)
    except Undecodable:
        return False
    return True


def _open(word: str) -> tuple[IO[bytes], str]:
    """The input, which can be read again from its start, and how to call it."""
    if word == "-":
        return _kept(sys.stdin.buffer), "the standard input"
    if not word.startswith("@"):
        return io.BytesIO(word.encode("utf-8", "surrogateescape")), "the event"
    path = Path(word[1:])
    try:
        opened = path.open("rb")  # open until the process ends, as the standard input is
        return (opened if opened.seekable() else _kept(opened)), str(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _kept(stream: IO[bytes]) -> IO[bytes]:
    from tempfile import SpooledTemporaryFile

    kept: IO[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - as long as needed
    shutil.copyfileobj(stream, kept)
    return kept
