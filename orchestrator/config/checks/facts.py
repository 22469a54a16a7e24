"""What the checks share: the document, and the topics and handlers that it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from orchestrator.config.model import NO_DLQ, Topic
from orchestrator.config.syntax.document import Document
from orchestrator.config.syntax.nodes import Path
from orchestrator.config.topics import resolve_topics


@dataclass(frozen=True, slots=True)
class PipelineFacts:
    """`topics` are resolved, derived DLQs included; `handlers` as they stand in the tree.

    `dlq_named` has the first place that names each DLQ; topics come first. `uncertain` says that a refused value may
    have named more topics than are known.
    """

    doc: Document
    base: FilePath
    topics: Mapping[str, Topic]
    handlers: Mapping[str, dict[str, Any]]
    dlq_named: Mapping[str, Path]
    uncertain: bool

    @property
    def streams(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The handlers that kpipe feeds with events: all but the services."""
        return ((name, own) for name, own in self.handlers.items() if "service" not in own)

    def topic(self, name: str) -> Topic | None:
        return self.topics.get(name)

    def shown(self, name: object) -> str:
        return f"`{self.doc.shown(name)}`"


def gather(doc: Document, base: FilePath) -> PipelineFacts:
    """The facts of a document whose shape was checked."""
    named: dict[str, Path] = {}
    for path, name in _dlq_paths(doc):
        named.setdefault(name, path)
    return PipelineFacts(doc, base, resolve_topics(doc.tree, base), doc.section("handlers"), named, _uncertain(doc))


def _dlq_paths(doc: Document) -> Iterator[tuple[Path, str]]:
    for name, topic in doc.section("topics").items():
        yield from _named(("topics", name, "dlq"), topic)
    yield from _named(("defaults", "handler", "dlq"), doc.section("defaults", "handler"))
    for name, handler in doc.section("handlers").items():
        if "service" not in handler:
            yield from _named(("handlers", name, "dlq"), handler)


def _named(path: Path, holder: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    if holder.get("dlq", NO_DLQ) != NO_DLQ:
        yield path, holder["dlq"]


def _uncertain(doc: Document) -> bool:
    return (
        doc.refused("topics")
        or doc.refused("defaults", "handler", "dlq")
        or any(doc.refused(section, name, "dlq") for section in ("topics", "handlers") for name in doc.section(section))
    )
