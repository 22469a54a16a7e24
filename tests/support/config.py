"""Pipeline documents for tests: a small valid one, and strategies around it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from orchestrator.config import Loaded, load
from orchestrator.config.syntax.codes import CODES
from orchestrator.records import Finding

#: A valid document without files, with some of everything.
VALID: dict[str, Any] = {
    "kpipe": 1,
    "pipeline": "shop",
    "namespace": "",
    "kafka": {"bootstrap": "localhost:9092", "client": {}, "consumer": {"fetch.min.bytes": "1"}},
    "defaults": {
        "topic": {"partitions": 3, "replication": 1, "retention": "7d", "cleanup": "delete"},
        "dlq": {"retention": "30d"},
        "handler": {
            "timeout": "30s",
            "retry": {"attempts": 5, "backoff": "100ms", "max-backoff": "30s"},
            "dedup": {"by": "eventId", "window": "10m"},
        },
    },
    "topics": {
        "orders": {"key": "orderId", "dlq": "orders.dlq"},
        "paid": {"dlq": "paid.dlq", "configs": {"max.message.bytes": "2MB"}},
        "paid.dlq": {"retention": "unlimited"},
    },
    "events": {"order": {"topic": "orders", "generate": {"eventId": "uuid"}}},
    "handlers": {
        "api": {"service": "python -m api", "port": 3001, "ready": {"http": "/"}, "produces": ["orders"]},
        "pay": {"python": "shop:pay", "consumes": ["orders"], "produces": ["paid"], "dlq": "paid.dlq"},
        "watch": {"python": "shop:watch", "consumes": ["orders", "paid", "paid.dlq"], "dlq": "none", "dedup": "off"},
    },
}

#: JSON values as YAML writes them too.
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(("", "off", "no", "10m", "1MB", "unlimited", "none", "orders", "a:b", "${A}", "-1", "0s"))
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "orders", "dlq", "x-y")), inner, max_size=3)
    ),
    max_leaves=6,
)


def document(**sections: Any) -> dict[str, Any]:
    """The smallest document with these sections."""
    return {"kpipe": 1, "pipeline": "p", **sections}


def loaded(folder: Path, content: Any, environ: Mapping[str, str] | None = None) -> Loaded:
    """What `load` makes of a pipeline file with this content: text, or a document."""
    file = folder / "pipeline.yaml"
    file.write_text(content if isinstance(content, str) else yaml_text(content), encoding="utf-8")
    return load([file], environ or {})


def found(folder: Path, content: Any, environ: Mapping[str, str] | None = None, *, alone: bool = True) -> list[Finding]:
    """The findings of a pipeline file with this content.

    `alone`: what it consumes comes from elsewhere, which is no finding then: most tests are about something else.
    """
    findings = list(loaded(folder, content, environ).findings)
    assert {finding.code for finding in findings} <= CODES.keys()
    return [finding for finding in findings if not (alone and finding.code == "unproduced")]


def column(content: Any, snippet: str) -> int:
    """The column in which the last `snippet` of a document begins."""
    return yaml_text(content).rindex(snippet) + 1


def only(findings: list[Finding]) -> Finding:
    """The one finding there is."""
    assert len(findings) == 1, findings
    return findings[0]


def yaml_text(value: Any) -> str:
    """JSON is YAML: a document with the value at its top."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*path, index))
    return found


def put(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of `tree` with `value` at `path`."""
    if not path:
        return value
    changed = copy.copy(tree)
    changed[path[0]] = put(tree[path[0]], path[1:], value)
    return changed


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """The valid document with up to three of its values replaced by anything, or keys added."""
    tree = VALID
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in paths(tree) if path]))
        tree = put(tree, path, draw(VALUES))
        holder = draw(st.sampled_from([path for path in paths(tree) if isinstance(at(tree, path), dict)]))
        if draw(st.booleans()):
            key = draw(st.sampled_from(("dlq", "a", "retention", "concurrency", "service", "topics", "schema", "env")))
            tree = put(tree, holder, {**at(tree, holder), key: draw(VALUES)})
    return tree


def at(tree: Any, path: tuple[str | int, ...]) -> Any:
    """The value at `path`."""
    for step in path:
        tree = tree[step]
    return tree


def scalar_paths(tree: Any) -> list[tuple[str | int, ...]]:
    """Every place of a value that is no collection."""
    return [path for path in paths(tree) if path and not isinstance(at(tree, path), (dict, list))]


_TOPICS = st.fixed_dictionaries(
    {},
    optional={
        "partitions": st.integers(1, 40),
        "replication": st.integers(1, 5),
        "retention": st.sampled_from(("1h", "7d", "unlimited")),
        "cleanup": st.sampled_from(("delete", "compact", "compact,delete")),
        "configs": st.fixed_dictionaries(
            {},
            optional={
                "max.message.bytes": st.sampled_from(("1MB", "2097152", "512KB", 700)),
                "flush.ms": st.just("1s"),
            },
        ),
        "dlq": st.sampled_from(("dead.a", "dead.b")),
        "key": st.sampled_from(("id", "orderId")),
    },
)


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document: up to four topics with two DLQs between them, and up to three handlers."""
    topics = draw(st.dictionaries(st.sampled_from(("a", "b.c", "d-e", "F")), _TOPICS, min_size=1, max_size=4))
    handlers = {}
    for name in draw(st.sets(st.sampled_from(("one", "two", "three")), max_size=3)):
        handlers[name] = {
            "python": "some.module:function",
            "consumes": draw(st.lists(st.sampled_from(sorted(topics)), min_size=1, unique=True)),
            "dlq": draw(st.sampled_from(("none", "dead.a", "dead.c"))),
            "env": draw(st.dictionaries(st.sampled_from(("A", "B_1")), st.sampled_from((1, 1.5, True, "x", "1.10")))),
            "essential": draw(st.booleans()),
        }
    return {
        "kpipe": 1,
        "pipeline": draw(st.sampled_from(("p", "order-system-2"))),
        "namespace": draw(st.sampled_from(("", "dev", "a.b"))),
        "topics": topics,
        "handlers": dict(sorted(handlers.items())),
    }
