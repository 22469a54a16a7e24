"""`${NAME}`, `${NAME:-default}` and `${file:path}` in scalars, after parsing: a value can never become structure.

`$$` is a dollar sign. As in a shell, the default of `:-` also stands in for an empty value. Keys are not
interpolated, because two of them could become equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from orchestrator.config.reading import Reach, ReadRefused
from orchestrator.config.syntax.document import MAX_FINDINGS
from orchestrator.config.syntax.nodes import Entry, ListNode, MapNode, Mark, Node, Scalar
from orchestrator.records import Finding

MAX_FILE_BYTES = 1_000_000
#: Characters that all references of a document come to.
MAX_TEXT = 10_000_000
_TOKEN = re.compile(r"\$\$|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_REFERENCE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class _Refused(Exception):
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def interpolate(root: MapNode, environ: Mapping[str, str]) -> tuple[MapNode, list[Finding]]:
    """The same document with every reference replaced; `${file:…}` begins at the folder of the file that has it."""
    run = _Interpolation(environ)
    node = run.node(root)
    assert isinstance(node, MapNode)
    return node, run.findings


class _Interpolation:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._files: dict[tuple[Path, str], str] = {}
        self._length = 0
        self.findings: list[Finding] = []

    def node(self, node: Node) -> Node:
        if isinstance(node, Scalar):
            return self._scalar(node)
        if isinstance(node, ListNode):
            return ListNode(node.mark, tuple(self.node(item) for item in node.items))
        entries = {}
        for key, entry in node.entries.items():
            self._check_key(key, entry.key)
            entries[key] = Entry(entry.key, self.node(entry.value))
        return MapNode(node.mark, entries)

    def _check_key(self, key: str, mark: Mark) -> None:
        if "${" in key.replace("$$", ""):
            self._find(
                mark, _Refused(f"the key `{key}` is not interpolated", "only values are; `namespace` prefixes names")
            )

    def _find(self, mark: Mark, refused: _Refused) -> None:
        if len(self.findings) >= MAX_FINDINGS:
            return
        self.findings.append(
            Finding("error", "interpolation", mark.file, mark.line, mark.column, refused.message, refused.hint)
        )

    def _scalar(self, scalar: Scalar) -> Scalar:
        if "$" not in scalar.text:
            return scalar
        parts, outside, references, end = [], False, False, 0
        for match in _TOKEN.finditer(scalar.text):
            parts.append(scalar.text[end : match.start()])
            end = match.end()
            if match[0] == "$$":
                parts.append("$")
                continue
            references = True
            text, foreign = self._replacement(match, scalar.mark)
            outside = outside or foreign
            parts.append(text)
        text = "".join([*parts, scalar.text[end:]])
        if not references:
            return Scalar(scalar.mark, text, scalar.plain)
        return Scalar(scalar.mark, text, False, True, scalar.text if outside else None)

    def _replacement(self, match: re.Match[str], mark: Mark) -> tuple[str, bool]:
        """The text that takes the reference's place, and whether it came from outside the document."""
        try:
            if not match["end"]:
                raise _Refused("`${` without its `}`", "a dollar sign is written `$$`")
            if match["body"].startswith("file:"):
                text, foreign = self._file(Path(mark.file).parent, match["body"][len("file:") :]), True
            else:
                text, foreign = self._variable(match["body"])
            self._length += len(text)
            if self._length > MAX_TEXT:
                raise _Refused(f"the file's references come to more than {MAX_TEXT // 1_000_000} MB of text")
            return text, foreign
        except _Refused as refused:
            self._find(mark, refused)
            return "", False

    def _variable(self, body: str) -> tuple[str, bool]:
        match = _REFERENCE.fullmatch(body)
        if match is None or "${" in body:
            hint = "write ${NAME}, ${NAME:-default} or ${file:path}; a dollar sign is written `$$`"
            raise _Refused(f"`${{{body}}}` is no reference", hint)
        name, default = match["name"], match["default"]
        value = self._environ.get(name)
        if default is not None and not value:
            return default, False
        if value is None:
            raise _Refused(
                f"`{name}` is not defined", f"set the environment variable, or give a default: ${{{name}:-default}}"
            )
        return _usable(value, f"the value of `{name}`"), True

    def _file(self, folder: Path, name: str) -> str:
        """The file's text. Each file is read once."""
        if (folder, name) not in self._files:
            self._files[folder, name] = self._read(folder, name)
        return self._files[folder, name]

    def _read(self, folder: Path, name: str) -> str:
        try:
            text = Reach.of(folder, self._environ).read(folder / name, MAX_FILE_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise _Refused(f"`{name}` is not UTF-8") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            begins = "the path begins at the folder of the file that names it"
            hint = error.hint if isinstance(error, ReadRefused) else begins
            raise _Refused(f"cannot read `{name}`: {reason}", hint) from None
        return _usable(text.removesuffix("\n").removesuffix("\r"), f"`{name}`")


def _usable(text: str, what: str) -> str:
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise _Refused(f"{what} is not text: it holds a NUL or bytes that are not UTF-8")
    return text
