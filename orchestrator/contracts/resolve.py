"""A schema with everything it refers to, as one document: what `kpipe schemas` shows and compares.

References are replaced by what they lead to. A schema that refers to itself keeps those references, into the `$defs` of
the result. Relative references, `$id`, `$anchor` and JSON pointers are followed as in `load.py`; nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import orjson

from orchestrator.contracts.sources import FILES, Source

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
_NO_NETWORK = "kpipe fetches no schemas; put the file beside this one and refer to it by its relative path"
_OLD_DRAFTS = ("draft-04", "draft-06", "draft-07")


class Unresolvable(ValueError):
    """A reference leads nowhere; the message names it."""


class _Node(NamedTuple):
    schema: Any
    base: str


def resolved(path: Path, source: Source = FILES) -> Any:
    """The schema in `path` without references. Raises OSError, ValueError (not JSON) or Unresolvable."""
    return _Resolver(path, source).whole()


class _Resolver:
    def __init__(self, path: Path, source: Source) -> None:
        self._source = source
        self._folder = path.parent
        self._documents: dict[str, _Node] = {}
        self._anchors: dict[tuple[str, str], _Node] = {}
        self._root = self._add(path.absolute().as_uri(), orjson.loads(source.read(path)))
        dialect = self._root.schema.get("$schema", "") if isinstance(self._root.schema, dict) else ""
        #: Up to draft 7 whatever stands beside `$ref` is ignored.
        self._alone = any(draft in str(dialect) for draft in _OLD_DRAFTS)
        self._dialect = dialect
        self._names: dict[int, str] = {}
        self._defs: dict[str, Any] = {}
        self._done: dict[int, Any] = {}

    def whole(self) -> Any:
        made = self._inline(self._root, (id(self._root.schema),))
        if not isinstance(made, dict):
            return made
        if id(self._root.schema) in self._names:
            self._defs[self._names[id(self._root.schema)]] = made
            made = {"$ref": f"#/$defs/{self._names[id(self._root.schema)]}"}
        head = {"$schema": self._dialect} if self._dialect else {}
        return {**head, **made, **({"$defs": self._defs} if self._defs else {})}

    def _inline(self, node: _Node, open_: tuple[int, ...]) -> Any:
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

    def _target(self, target: _Node, open_: tuple[int, ...]) -> Any:
        key = id(target.schema)
        if key in open_:
            name = self._names.setdefault(key, _name(target, self._names))
            return {"$ref": f"#/$defs/{name}"}
        if key not in self._done:
            made = self._inline(target, (*open_, key))
            if key in self._names:
                self._defs[self._names[key]] = made
                made = {"$ref": f"#/$defs/{self._names[key]}"}
            self._done[key] = made
        return self._done[key]

    def _members(self, node: _Node, open_: tuple[int, ...]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for word, value in node.schema.items():
            if word in _DROPPED:
                continue
            if word in MANY and isinstance(value, list):
                made[word] = [self._inline(self._child(node, item), open_) for item in value]
            elif word in NAMED and isinstance(value, dict):
                made[word] = {name: self._inline(self._child(node, item), open_) for name, item in value.items()}
            elif word in ONE:
                made[word] = self._inline(self._child(node, value), open_)
            else:
                made[word] = value
        return made

    def _child(self, node: _Node, schema: Any) -> _Node:
        return _Node(schema, _based(node.base, schema))

    def _follow(self, node: _Node, reference: str) -> _Node:
        uri, fragment = urldefrag(urljoin(node.base, reference))
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
                self._add(uri, orjson.loads(self._source.read(path)))
            except (OSError, ValueError) as error:
                raise Unresolvable(f"the reference {reference} cannot be read: {error}") from None
        if uri not in self._documents:
            self._add_siblings()
        if uri not in self._documents:
            raise Unresolvable(f"the reference {reference} leads nowhere: {_NO_NETWORK}")
        return self._documents[uri]

    def _add_siblings(self) -> None:
        for path in self._source.schemas(self._folder):
            try:
                schema = orjson.loads(self._source.read(path))
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
    return urldefrag(urljoin(base, own))[0] if isinstance(own, str) else base


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
