"""Which handler reads and writes which topic, by the pipeline file; no Kafka is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from orchestrator.outside import shown

if TYPE_CHECKING:
    from orchestrator.config.model import Handler, Pipeline

EdgeKind = Literal["consumes", "produces", "dead-letters"]


class Edge(NamedTuple):
    """One arrow between a topic and a handler; `kind` is what the handler does."""

    source: str
    target: str
    kind: EdgeKind


def edges(pipeline: Pipeline) -> list[Edge]:
    """Every arrow once, in the file's order."""
    found: list[Edge] = []
    for handler in pipeline.handlers.values():
        found += [Edge(topic, handler.name, "consumes") for topic in handler.consumes]
        found += [Edge(handler.name, topic, "produces") for topic in handler.produces]
        found += [Edge(handler.name, dlq, "dead-letters") for dlq in _dlqs(pipeline, handler)]
    return list(dict.fromkeys(found))


def labels(pipeline: Pipeline) -> dict[str, str]:
    """How each topic may be shown: a DLQ whose name comes from outside of the file, as the file says it."""
    return {name: shown(topic.name) for name, topic in pipeline.topics.items()}


def labelled_edges(pipeline: Pipeline) -> list[Edge]:
    """Every arrow, with the topic as it may be shown."""
    label = labels(pipeline)
    return [
        Edge(label[source], target, kind) if kind == "consumes" else Edge(source, label[target], kind)
        for source, target, kind in edges(pipeline)
    ]


def _dlqs(pipeline: Pipeline, handler: Handler) -> list[str]:
    """The DLQs that this handler writes to: for what it gives up on, and as the first handler of a topic in the file
    also for events that break the topic's contract."""
    found = [
        *(pipeline.topics[t].dlq for t in handler.consumes if pipeline.writes_contract_letters(handler, t)),
        *(pipeline.dlq_of(handler, topic) for topic in handler.consumes),
    ]
    return [dlq for dlq in dict.fromkeys(found) if dlq is not None]
