"""YAML text to nodes with positions. Nothing is constructed from tags, and only plain JSON shapes come out.

Written on PyYAML's parser events rather than its composer, because the composer drops duplicate keys, resolves
YAML 1.1 (`on`, `no`, `1_000`, `12:30` and `010` would not be text), and expands aliases without a bound.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from orchestrator.config.nodes import Entry, ListNode, MapNode, Mark, Node, Scalar
from orchestrator.records import Finding

MAX_BYTES = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 40

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_COLLECTION_TAGS = frozenset(_TAG + name for name in ("map", "seq"))


class _Abort(Exception):
    """Reading cannot go on after this finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


def parse(raw: bytes, file: str) -> tuple[MapNode | None, list[Finding]]:
    """The document's top mapping and what is wrong with its YAML; no mapping when it cannot be read at all."""
    composer = _Composer(file)
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
    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self._anchors: dict[str, Node] = {}

    def document(self, text: str) -> MapNode:
        self._loader = yaml.SafeLoader("")
        try:
            self._loader = yaml.SafeLoader(text)
            return self._document()
        except yaml.reader.ReaderError as error:
            raise self._unreadable(text, error) from None
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except (ValueError, OverflowError):
            # PyYAML's scanner lets chr() and int() fail on escapes and directives that are out of range.
            mark = self._mark(self._loader.get_mark())
            raise _abort(mark, "yaml", "not valid YAML: a number or an escape is out of range") from None

    def _document(self) -> MapNode:
        self._next()
        if self._loader.check_event(yaml.StreamEndEvent):
            raise self._empty()
        self._next()
        root = self._node(1)
        self._next()
        if not self._loader.check_event(yaml.StreamEndEvent):
            mark = self._mark(self._loader.peek_event().start_mark)
            raise _abort(
                mark, "documents", "a second YAML document begins here", "one file holds one document: remove the `---`"
            )
        if isinstance(root, MapNode):
            return root
        if isinstance(root, Scalar) and root.plain and not root.text:
            raise self._empty()
        raise _abort(
            root.mark, "type", f"expected a mapping at the top of the file, got {_kind(root)}", "begin with `kpipe: 1`"
        )

    def _empty(self) -> _Abort:
        return _abort(
            Mark(self.file), "empty", "the file is empty", "the smallest one has `kpipe: 1` and `pipeline: NAME`"
        )

    def _next(self) -> yaml.Event:
        return self._loader.get_event()

    def _mark(self, mark: yaml.Mark) -> Mark:
        return Mark(self.file, mark.line + 1, mark.column + 1)

    def _find(self, mark: Mark, code: str, message: str, hint: str = "") -> None:
        self.findings.append(_abort(mark, code, message, hint).finding)

    def _node(self, depth: int) -> Node:
        event = self._next()
        mark = self._mark(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, mark)
        if depth > MAX_DEPTH:
            raise _abort(mark, "too-deep", f"nested deeper than {MAX_DEPTH} levels")
        self._check_tag(event, mark)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(
                mark, self._text(event.value, mark), event.implicit[0] or event.tag in _SCALAR_TAGS - {_TAG + "str"}
            )
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(mark, depth)
        else:
            node = self._map(mark, depth)
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

    def _check_tag(self, event: yaml.NodeEvent, mark: Mark) -> None:
        tag = getattr(event, "tag", None)
        allowed = _SCALAR_TAGS if isinstance(event, yaml.ScalarEvent) else _COLLECTION_TAGS
        if tag not in (None, "!") and tag not in allowed:
            shown = tag.replace(_TAG, "!!") if tag.startswith(_TAG) else tag
            self._find(mark, "tag", f"the YAML tag {shown} is not supported", "remove the tag")

    def _text(self, text: str, mark: Mark) -> str:
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            self._find(mark, "text", "the text holds a NUL or half of a surrogate pair", "remove the escape")
            return ""
        return text

    def _list(self, mark: Mark, depth: int) -> ListNode:
        items: list[Node] = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            items.append(self._node(depth + 1))
        self._next()
        return ListNode(mark, tuple(items))

    def _map(self, mark: Mark, depth: int) -> MapNode:
        entries: dict[str, Entry] = {}
        merged: list[Mapping[str, Entry]] = []
        while not self._loader.check_event(yaml.MappingEndEvent):
            key = self._node(depth + 1)
            value = self._node(depth + 1)
            if isinstance(key, Scalar) and key.plain and key.text == "<<":
                merged.extend(self._merged(value))
            else:
                self._add(entries, key, value)
        self._next()
        for source in merged:
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

    def _merged(self, value: Node) -> list[Mapping[str, Entry]]:
        """What `<<` brings in: earlier sources win over later ones, and the mapping's own keys over all."""
        sources = value.items if isinstance(value, ListNode) else (value,)
        for source in sources:
            if not isinstance(source, MapNode):
                self._find(
                    source.mark, "merge-key", f"`<<` merges mappings, got {_kind(source)}", "write `<<: *anchor`"
                )
        return [source.entries for source in sources if isinstance(source, MapNode)]

    def _unreadable(self, text: str, error: yaml.reader.ReaderError) -> _Abort:
        before = text[: error.position]
        mark = Mark(self.file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        return _abort(mark, "yaml", "not valid YAML: a control character", "remove it")

    def _syntax(self, error: yaml.MarkedYAMLError) -> _Abort:
        place = error.problem_mark or error.context_mark
        mark = Mark(self.file) if place is None else self._mark(place)
        problem = error.problem or error.context or "it cannot be read"
        if "'\\t'" in problem:
            return _abort(mark, "yaml", "not valid YAML: a tab where only spaces may be", "indent with spaces")
        context = f" ({error.context})" if error.context and error.problem else ""
        return _abort(mark, "yaml", f"not valid YAML: {problem}{context}")


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return "nothing" if node.plain and node.text in ("", "~", "null") else "text"
    return "a list" if isinstance(node, ListNode) else "a mapping"
