"""The drafts of JSON Schema that kpipe reads, and compiling without ever fetching anything.

jsonschema-rs looks up what `$schema` and `$ref` name over HTTP or in the file system. kpipe resolves references by
itself (contracts/resolve.py), so here every look-up is refused: what a contract means may not depend on a server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

NEWEST = "https://json-schema.org/draft/2020-12/schema"
#: Without the scheme before and the `#` behind. The last one is a name for 2020-12.
_DRAFTS = frozenset(
    (
        "json-schema.org/draft-04/schema",
        "json-schema.org/draft-06/schema",
        "json-schema.org/draft-07/schema",
        "json-schema.org/draft/2019-09/schema",
        "json-schema.org/draft/2020-12/schema",
        "json-schema.org/schema",
    )
)
#: Keywords whose value holds schemas by name, and those whose value is data.
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"))
_DATA = frozenset(("const", "enum", "default", "examples"))


def is_known(draft: str) -> bool:
    """Whether `draft`, the text of a `$schema`, names one that jsonschema-rs has built in."""
    return draft.removeprefix("https://").removeprefix("http://").removesuffix("#") in _DRAFTS and "://" in draft


class UnknownDraft(ValueError):
    """A `$schema` names no draft that kpipe knows; the message says which, and what there is."""


def require_known_drafts(schema: Any) -> None:
    """Raises `UnknownDraft` for the first `$schema` in the document, at any depth, that names none of them."""
    for named in _texts(schema, "$schema"):
        if not is_known(named):
            shown = named if len(named) <= 100 else named[:99] + "…"
            raise UnknownDraft(f"the draft {shown} is not known, and none is fetched; write {NEWEST} or an older one")


def patterns(schema: Any) -> Iterator[str]:
    """The regular expressions of a schema."""
    yield from _texts(schema, "pattern")
    yield from _texts(schema, "patternProperties")


def _texts(schema: Any, keyword: str) -> Iterator[str]:
    """The texts that stand under a keyword, at any depth: its value, or the names in it."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            own = node.get(keyword)
            if isinstance(own, str):
                yield own
            elif isinstance(own, dict):
                yield from own
            for word, value in node.items():
                if word in _NAMED and isinstance(value, dict):
                    stack.extend(value.values())
                elif word not in _DATA:
                    stack.append(value)


def check_schema(schema: Any) -> None:
    """Raises ValueError (`UnknownDraft`, jsonschema_rs.ValidationError) for what is no JSON Schema of a known draft."""
    require_known_drafts(schema)
    jsonschema_rs.meta.validate(schema, registry=_EMPTY)


def compile_offline(schema: Any, **options: Any) -> jsonschema_rs.Validator:
    """As `jsonschema_rs.validator_for`, by the draft that `schema` names; raises ValueError as `check_schema` does."""
    require_known_drafts(schema)
    return jsonschema_rs.validator_for(schema, **OFFLINE, **options)


def _refuse(uri: str) -> Any:
    raise ValueError(f"kpipe fetches no schemas: {uri}")


#: For every call into jsonschema-rs that takes a schema from a file.
OFFLINE: Mapping[str, Any] = {"retriever": _refuse}
_EMPTY = jsonschema_rs.Registry([], retriever=_refuse)
