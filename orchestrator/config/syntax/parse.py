"""YAML text to nodes with positions. Nothing is constructed from tags, and only plain JSON shapes come out.

Written on PyYAML's parser events rather than its composer, because the composer drops duplicate keys, resolves
YAML 1.1 (`on`, `no`, `1_000`, `12:30` and `010` would not be text), and expands aliases without a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import yaml

from orchestrator.config.syntax.nodes import Entry, ListNode, MapNode, Mark, Node, Scalar
from orchestrator.records import Finding

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 40

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_TYPED_TAGS = _SCALAR_TAGS - {_TAG + "str"}
_COLLECTION_TAGS = frozenset(_TAG + name for name in ("map", "seq"))


class _Place(Protocol):
    """A mark of PyYAML, from its own reader or from libyaml: counts from 0."""

    @property
    def index(self) -> int: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class _Abort(Exception):
    """Reading cannot go on after this finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def parse(
    raw: bytes, file: str, *, begin: str = "`kpipe: 1`", smallest: str = "`kpipe: 1` and `pipeline: NAME`"
) -> tuple[MapNode | None, list[Finding]]:
    """The document's top mapping and what is wrong with its YAML; no mapping when it cannot be read at all.

    `begin` and `smallest` tell in hints how such a file begins, and what the smallest one has.
    """
    composer = _Composer(file, begin, smallest)
    try:
        root = composer.document(_decode(raw, file))
    except _Abort as abort:
        return None, [*composer.findings, abort.finding]
    return root, composer.findings


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > MAX_BYTES:
        raise _abort(Mark(file), "too-large", f"the file is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        column = len(before) - (before.rfind("\n") + 1) + 1
        mark = Mark(file, before.count("\n") + 1, column)
        raise _abort(mark, "encoding", "the file is not UTF-8", "save it as UTF-8") from None


def _abort(mark: Mark, code: str, message: str, hint: str = "") -> _Abort:
    return _Abort(Finding("error", code, mark.file, mark.line, mark.column, message, hint))


class _Composer:
    def __init__(self, file: str, begin: str, smallest: str) -> None:
        self.file = file
        self._begin, self._smallest = begin, smallest
        self.findings: list[Finding] = []
        self._anchors: dict[str, Node] = {}
        self._events: Iterator[yaml.Event] = iter(())
        self._last = Mark(file)
        self._count = 0

    def document(self, text: str) -> MapNode:
        self._events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        try:
            return self._document()
        except yaml.reader.ReaderError as error:
            raise self._unreadable(text, error) from None
        except yaml.MarkedYAMLError as error:
            raise self._syntax(text, error) from None
        except (ValueError, OverflowError):
            # PyYAML's scanner lets chr() and int() fail on escapes and directives that are out of range.
            raise _abort(self._last, "yaml", "not valid YAML: a number or an escape is out of range") from None

    def _document(self) -> MapNode:
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise self._empty()
        root = self._node(self._next(), 1)
        self._next()
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            hint = "one file holds one document: remove the `---`"
            raise _abort(self._mark(after.start_mark), "documents", "a second YAML document begins here", hint)
        if isinstance(root, MapNode):
            return root
        if isinstance(root, Scalar) and root.plain and not root.text:
            raise self._empty()
        message = f"expected a mapping at the top of the file, got {_kind(root)}"
        raise _abort(root.mark, "type", message, f"begin with {self._begin}")

    def _empty(self) -> _Abort:
        hint = f"the smallest one has {self._smallest}"
        return _abort(Mark(self.file), "empty", "the file is empty", hint)

    def _next(self) -> yaml.Event:
        event = next(self._events)
        self._last = self._mark(event.start_mark)
        return event

    def _mark(self, mark: _Place | None) -> Mark:
        return Mark(self.file) if mark is None else Mark(self.file, mark.line + 1, mark.column + 1)

    def _find(self, mark: Mark, code: str, message: str, hint: str = "") -> None:
        self.findings.append(_abort(mark, code, message, hint).finding)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        mark = self._mark(event.start_mark)
        self._count += 1
        if self._count > MAX_NODES:
            raise _abort(mark, "too-large", f"more than {MAX_NODES} values")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, mark)
        if depth > MAX_DEPTH:
            raise _abort(mark, "too-deep", f"nested deeper than {MAX_DEPTH} levels")
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            self._check_tag(event.tag, _SCALAR_TAGS, mark)
            plain = event.implicit[0] or event.tag in _TYPED_TAGS
            node = Scalar(mark, self._text(event.value, mark), plain)
            return self._bounded(node, event.anchor)
        assert isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent))
        self._check_tag(event.tag, _COLLECTION_TAGS, mark)
        node = self._list(mark, depth) if isinstance(event, yaml.SequenceStartEvent) else self._map(mark, depth)
        return self._bounded(node, event.anchor)

    def _alias(self, event: yaml.AliasEvent, mark: Mark) -> Node:
        if event.anchor not in self._anchors:
            raise _abort(mark, "alias", f"the alias *{event.anchor} has no anchor before it", "an anchor is `&name`")
        return self._anchors[event.anchor]

    def _bounded(self, node: Node, anchor: str | None) -> Node:
        if node.size > MAX_NODES:
            raise _abort(node.mark, "too-large", f"more than {MAX_NODES} values once its aliases are expanded")
        if node.depth > MAX_DEPTH:
            raise _abort(node.mark, "too-deep", f"nested deeper than {MAX_DEPTH} levels once its aliases are expanded")
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _check_tag(self, tag: str | None, allowed: frozenset[str], mark: Mark) -> None:
        if tag is not None and tag != "!" and tag not in allowed:
            shown = tag.replace(_TAG, "!!") if tag.startswith(_TAG) else tag
            self._find(mark, "tag", f"the YAML tag {shown} is not supported", "remove the tag")

    def _text(self, text: str, mark: Mark) -> str:
        try:
            # JSON, which is YAML too, writes characters beyond U+FFFF as the two halves of a surrogate pair.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._find(mark, "text", "the text has half of a surrogate pair", "remove the escape")
            return ""
        if "\0" in text:
            self._find(mark, "text", "the text has a NUL character", "remove the escape")
            return ""
        return text

    def _list(self, mark: Mark, depth: int) -> ListNode:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return ListNode(mark, tuple(items))

    def _map(self, mark: Mark, depth: int) -> MapNode:
        entries: dict[str, Entry] = {}
        merged: list[Mapping[str, Entry]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if isinstance(key, Scalar) and key.plain and key.text == "<<":
                merged.extend(self._merged(key.mark, value))
            else:
                self._add(entries, key, value)
        for source in merged:
            self._count += len(source)
            if self._count > MAX_NODES:
                raise _abort(mark, "too-large", f"more than {MAX_NODES} values once `<<` is expanded")
            for name, entry in source.items():
                entries.setdefault(name, entry)
        return MapNode(mark, entries)

    def _add(self, entries: dict[str, Entry], key: Node, value: Node) -> None:
        if not isinstance(key, Scalar) or (key.plain and key.text in ("", "~", "null")):
            self._find(key.mark, "key", f"a key has to be text, got {_kind(key)}", "put the key in quotes")
        elif key.text in entries:
            first = entries[key.text].key
            self._find(
                key.mark,
                "duplicate-key",
                f"the key `{key.text}` is already there, in line {first.line}",
                "remove one of the two",
            )
        else:
            entries[key.text] = Entry(key.mark, value)

    def _merged(self, mark: Mark, value: Node) -> list[Mapping[str, Entry]]:
        """What `<<` brings in: earlier sources win over later ones, and the mapping's own keys over all."""
        sources = value.items if isinstance(value, ListNode) else (value,)
        for source in sources:
            if not isinstance(source, MapNode):
                self._find(mark, "merge-key", f"`<<` merges mappings, got {_kind(source)}", "write `<<: *anchor`")
        return [source.entries for source in sources if isinstance(source, MapNode)]

    def _unreadable(self, text: str, error: yaml.reader.ReaderError) -> _Abort:
        before = text[: error.position]
        mark = Mark(self.file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        return _abort(mark, "yaml", "not valid YAML: a control character", "remove it")

    def _syntax(self, text: str, error: yaml.MarkedYAMLError) -> _Abort:
        place = error.problem_mark or error.context_mark
        mark = self._mark(place)
        problem = error.problem or error.context or "it cannot be read"
        if "'\\t'" in problem:
            return _abort(mark, "yaml", "not valid YAML: a tab where only spaces may be", "indent with spaces")
        if place is not None and text[max(place.index - 1, 0) :].startswith("${"):
            hint = "put the reference in quotes, or write the mapping without { }"
            return _abort(mark, "yaml", "not valid YAML: `${` inside of { } or [ ]", hint)
        context = f" ({error.context})" if error.context and error.problem else ""
        return _abort(mark, "yaml", f"not valid YAML: {problem}{context}")


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return "nothing" if node.plain and node.text in ("", "~", "null") else "text"
    return "a list" if isinstance(node, ListNode) else "a mapping"
