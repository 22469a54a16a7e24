"""A schema with everything it refers to, as one document: what `kpipe schemas` shows and compares.

References are replaced by what they lead to. A schema that refers to itself keeps those references, into the `$defs` of
the result. Relative references, `$id`, `$anchor` and JSON pointers are followed as in `load.py`; nothing is fetched.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import orjson

from orchestrator.config.budget import Budget, TooMuch, size
from orchestrator.config.patterns import weight
from orchestrator.contracts.sources import SchemaSource, files_of

#: Keywords whose value is one schema, a list of them, or schemas by name.
ONE = frozenset(
    [
        "additionalProperties",
        "additionalItems",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
MANY = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "dependencies"))
#: What is of no use once references are gone.
_DROPPED = frozenset(("$anchor", "$defs", "$id", "$schema", "definitions"))
#: JSON values of a schema without references. A reference that is used twice counts twice: whoever compiles or prints
#: the result has it twice.
MAX_VALUES = 500_000
#: Levels of schemas and references within each other. A level takes up to four of Python's 1,000 frames.
MAX_DEPTH = 200
#: Characters of an address, whole: each reference is joined with the one it stands under.
_MAX_ADDRESS = 4_000
#: Bytes of all files that are read for one schema, and files that are looked through for a `$id`.
MAX_BYTES = 20_000_000
MAX_SIBLINGS = 1_000
_NO_NETWORK = "kpipe fetches no schemas; put the file beside this one and refer to it by its relative path"
_OLD_DRAFTS = ("draft-04", "draft-06", "draft-07")


class Unresolvable(ValueError):
    """A reference leads nowhere; the message names it."""


class _Node(NamedTuple):
    schema: Any
    base: str


def resolved(path: Path, source: SchemaSource | None = None, within: Budget | None = None) -> Any:
    """The schema in `path` without references, by default with files near it only.

    Raises OSError, or ValueError: not JSON, Unresolvable, or TooMuch for a schema that would be larger than
    `MAX_VALUES` without its references, nested deeper than `MAX_DEPTH`, or refers to more than `MAX_BYTES` of files.
    Schemas that are kept at the same time share the budget `within`.
    """
    files = files_of(path.parent) if source is None else source
    return _Resolver(path, files, values() if within is None else within).whole()


def values() -> Budget:
    """How many values schemas may have, one or several together."""
    return Budget(
        MAX_VALUES, f"with all that it refers to, and the schemas before it, it has more than {MAX_VALUES:,} values"
    )


class _Resolver:
    def __init__(self, path: Path, source: SchemaSource, values: Budget) -> None:
        self._source = source
        self._folder = path.parent
        self._values = values
        self._bytes = Budget(MAX_BYTES, f"it refers to more than {MAX_BYTES // 1_000_000} MB of files")
        self._depth = 0
        self._documents: dict[str, _Node] = {}
        self._anchors: dict[tuple[str, str], _Node] = {}
        self._root = self._add(path.absolute().as_uri(), self._read(path))
        dialect = self._root.schema.get("$schema", "") if isinstance(self._root.schema, dict) else ""
        #: Up to draft 7 whatever stands beside `$ref` is ignored.
        self._alone = any(draft in str(dialect) for draft in _OLD_DRAFTS)
        self._dialect = dialect
        self._names: dict[int, str] = {}
        self._defs: dict[str, Any] = {}
        #: What a target became, and how many values it counts.
        self._done: dict[int, tuple[Any, int]] = {}

    def whole(self) -> Any:
        made = self._inline(self._root, frozenset((id(self._root.schema),)))
        if not isinstance(made, dict):
            return made
        if id(self._root.schema) in self._names:
            self._defs[self._names[id(self._root.schema)]] = made
            made = {"$ref": f"#/$defs/{self._names[id(self._root.schema)]}"}
        head = {"$schema": self._dialect} if self._dialect else {}
        return {**head, **made, **({"$defs": self._defs} if self._defs else {})}

    def _read(self, path: Path) -> Any:
        raw = self._source.read(path)
        self._bytes.spend(len(raw))
        return orjson.loads(raw)

    def _inline(self, node: _Node, open_: frozenset[int]) -> Any:
        self._values.spend()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooMuch(f"with all that it refers to it is nested deeper than {MAX_DEPTH} levels")
        made = self._inlined(node, open_)
        self._depth -= 1
        return made

    def _inlined(self, node: _Node, open_: frozenset[int]) -> Any:
        schema = node.schema
        if not isinstance(schema, dict):
            return schema
        for word in ("$dynamicRef", "$recursiveRef"):
            if word in schema:
                raise Unresolvable(f"`{word}` is not supported, use `$ref`")
        if "$ref" not in schema:
            return self._members(node, open_)
        target = self._target(self._follow(node, str(schema["$ref"])), open_)
        if self._alone or len(schema) == 1:
            return target
        beside = self._members(_Node({k: v for k, v in schema.items() if k != "$ref"}, node.base), open_)
        if isinstance(target, dict) and _independent(beside, target):
            return {**target, **beside}
        return {**beside, "allOf": [target, *beside.get("allOf", [])]}

    def _target(self, target: _Node, open_: frozenset[int]) -> Any:
        key = id(target.schema)
        if key in open_:
            name = self._names.setdefault(key, _name(target, self._names))
            return {"$ref": f"#/$defs/{name}"}
        if key in self._done:
            made, values = self._done[key]
            self._values.spend(values)
            return made
        before = self._values.spent
        made = self._inline(target, open_ | {key})
        values = self._values.spent - before
        if key in self._names:
            self._defs[self._names[key]] = made
            made, values = {"$ref": f"#/$defs/{self._names[key]}"}, 1
        self._done[key] = made, values
        return made

    def _members(self, node: _Node, open_: frozenset[int]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for word, value in node.schema.items():
            if word in _DROPPED:
                continue
            if word in MANY and isinstance(value, list):
                made[word] = [self._inline(self._child(node, item), open_) for item in value]
            elif word in NAMED and isinstance(value, dict):
                if word == "patternProperties":
                    self._values.spend(sum(map(_compiled, value)))
                made[word] = {name: self._inline(self._child(node, item), open_) for name, item in value.items()}
            elif word in ONE:
                made[word] = self._inline(self._child(node, value), open_)
            else:
                self._values.spend(size(value) + (_compiled(value) if word == "pattern" else 0))
                made[word] = value
        return made

    def _child(self, node: _Node, schema: Any) -> _Node:
        return _Node(schema, _based(node.base, schema))

    def _follow(self, node: _Node, reference: str) -> _Node:
        uri, fragment = urldefrag(_joined(node.base, reference))
        document = self._document(uri, reference)
        if fragment and not fragment.startswith("/"):
            found = self._anchors.get((uri, fragment))
            if found is None:
                raise Unresolvable(f"the reference {reference} leads nowhere")
            return found
        at = document
        for step in unquote(fragment).split("/")[1:]:
            at = self._step(at, step.replace("~1", "/").replace("~0", "~"), reference)
        return at

    def _step(self, node: _Node, step: str, reference: str) -> _Node:
        schema = node.schema
        if isinstance(schema, dict) and step in schema:
            return self._child(node, schema[step])
        if isinstance(schema, list) and step.isdigit() and int(step) < len(schema):
            return self._child(node, schema[int(step)])
        raise Unresolvable(f"the reference {reference} leads nowhere")

    def _document(self, uri: str, reference: str) -> _Node:
        if uri not in self._documents and urlsplit(uri).scheme == "file":
            path = Path(unquote(urlsplit(uri).path))
            try:
                self._add(uri, self._read(path))
            except TooMuch:
                raise
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise Unresolvable(f"the reference {reference} cannot be read: {reason}") from None
        if uri not in self._documents:
            self._add_siblings()
        if uri not in self._documents:
            raise Unresolvable(f"the reference {reference} leads nowhere: {_NO_NETWORK}")
        return self._documents[uri]

    def _add_siblings(self) -> None:
        for path in islice(self._source.schemas(self._folder), MAX_SIBLINGS):
            try:
                schema = self._read(path)
            except TooMuch:
                raise
            except (OSError, ValueError):
                continue  # not what is looked for; whoever names this file is told
            if isinstance(schema, dict) and isinstance(schema.get("$id"), str):
                self._add(path.absolute().as_uri(), schema)

    def _add(self, uri: str, schema: Any) -> _Node:
        root = _Node(schema, _based(uri, schema))
        self._documents.setdefault(uri, root)
        self._register(root)
        return self._documents[uri]

    def _register(self, node: _Node) -> None:
        """Notes every `$id` and `$anchor` in a document."""
        stack = [node]
        while stack:
            at = stack.pop()
            if isinstance(at.schema, dict):
                own = at.schema.get("$id")
                if isinstance(own, str):
                    address, fragment = urldefrag(own)
                    if address:
                        self._documents.setdefault(at.base, at)
                    elif fragment:  # draft 6 and 7: an anchor
                        self._anchors.setdefault((at.base, fragment), at)
                for word in ("$anchor", "$dynamicAnchor"):
                    if isinstance(at.schema.get(word), str):
                        self._anchors.setdefault((at.base, at.schema[word]), at)
                stack += [self._child(at, value) for value in at.schema.values()]
            elif isinstance(at.schema, list):
                stack += [self._child(at, value) for value in at.schema]


def _compiled(pattern: Any) -> int:
    """What a regular expression counts: a state of it is smaller than a value of a schema."""
    return weight(pattern) // 4 if isinstance(pattern, str) else 0


#: Keywords whose meaning depends on those beside them.
_NEIGHBOURS = frozenset(
    ("additionalProperties", "items", "unevaluatedItems", "unevaluatedProperties", "if", "contains")
)


def _independent(beside: dict[str, Any], target: dict[str, Any]) -> bool:
    """Whether the two mean in one schema what they mean apart."""
    words = beside.keys() | target.keys()
    return not beside.keys() & target.keys() and "$ref" not in target and words.isdisjoint(_NEIGHBOURS)


def _based(base: str, schema: Any) -> str:
    own = schema.get("$id") if isinstance(schema, dict) else None
    return urldefrag(_joined(base, own))[0] if isinstance(own, str) else base


def _joined(base: str, reference: str) -> str:
    if len(base) + len(reference) > _MAX_ADDRESS:
        raise TooMuch(f"an address in it is longer than {_MAX_ADDRESS:,} characters")
    return urljoin(base, reference)


def _name(node: _Node, taken: dict[int, str]) -> str:
    title = node.schema.get("title") if isinstance(node.schema, dict) else None
    wanted = str(title or Path(urlsplit(node.base).path).stem or "schema").replace("/", "-").replace("~", "-")
    wanted = "".join(c if c.isalnum() or c in "-_." else "-" for c in wanted)
    names, number = set(taken.values()), 1
    name = wanted
    while name in names:
        number += 1
        name = f"{wanted}-{number}"
    return name
