"""Dead letter queues: each consumed topic has one, none is its own source, none is used for anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.model import NO_DLQ
from orchestrator.config.syntax.nodes import Path
from orchestrator.config.topics import handler_dlq


class _Edge(NamedTuple):
    """Events of `source` end in `dlq`, says the file at `path`."""

    source: str
    dlq: str
    path: Path


def check(facts: PipelineFacts) -> None:
    """All rules about DLQs."""
    edges = list(_edges(facts))
    circles = _check_circles(facts, edges)
    _check_chains(facts, edges, circles)
    _check_use(facts, circles)
    for name, own in facts.streams:
        _check_coverage(facts, name, own)


def _edges(facts: PipelineFacts) -> Iterator[_Edge]:
    for name, topic in facts.doc.section("topics").items():
        if topic.get("dlq", NO_DLQ) != NO_DLQ:
            yield _Edge(name, topic["dlq"], ("topics", name, "dlq"))
    for name, own in facts.streams:
        # The default DLQ of all handlers may be consumed by one of them: letters are not dead-lettered again.
        dlq = own.get("dlq", NO_DLQ)
        if dlq != NO_DLQ:
            for topic in own.get("consumes", []):
                yield _Edge(topic, dlq, ("handlers", name, "dlq"))


def _check_circles(facts: PipelineFacts, edges: list[_Edge]) -> set[Path]:
    """Findings for DLQs that lead back to where the event came from; returns the places that are part of one."""
    onward: dict[str, list[str]] = {}
    for edge in edges:
        onward.setdefault(edge.source, []).append(edge.dlq)
    circles: set[frozenset[str]] = set()
    places: set[Path] = set()
    for edge in edges:
        way = _way(onward, edge.dlq, edge.source)
        if way is None:
            continue
        places.add(edge.path)
        if frozenset(way) in circles:
            continue
        circles.add(frozenset(way))
        circle = " → ".join(facts.shown(name) for name in (edge.source, *way))
        alone = f"{facts.shown(edge.dlq)} is a DLQ of its own events"
        message = alone if len(way) == 1 else f"the DLQs go round in a circle: {circle}"
        facts.doc.find("dlq-circle", edge.path, message, "name another topic")
    return places


def _way(onward: Mapping[str, list[str]], start: str, end: str) -> tuple[str, ...] | None:
    """The topics from `start` to `end` along the DLQs, both included; None when no way leads there."""
    ways: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = [start]
    while queue and end not in ways:
        here = queue.pop(0)
        for dlq in onward.get(here, ()):
            if dlq not in ways:
                ways[dlq] = (*ways[here], dlq)
                queue.append(dlq)
    return ways.get(end)


def _check_chains(facts: PipelineFacts, edges: list[_Edge], circles: set[Path]) -> None:
    used = {edge.path for edge in edges if not _is_dlq(facts, edge.source)}
    for path in dict.fromkeys(edge.path for edge in edges):
        if path not in used and path not in circles:
            message = "this DLQ never gets an event: what it would take are dead letters already"
            hint = "a letter is never dead-lettered again; remove the `dlq`"
            facts.doc.warn("dlq-unused", path, message, hint)


def _is_dlq(facts: PipelineFacts, name: str) -> bool:
    topic = facts.topic(name)
    return topic is not None and topic.is_dlq


def _check_use(facts: PipelineFacts, circles: set[Path]) -> None:
    """A DLQ has letters only: their values broke a contract, so it has none, and no handler writes to it."""
    for name, topic in facts.doc.section("topics").items():
        if "schema" in topic and _is_dlq(facts, name):
            named = facts.dlq_named[name]
            if named in circles:
                continue
            message = f"{facts.shown(name)} has a schema, so it cannot be a DLQ"
            hint = "dead letters are kept byte for byte, whatever they hold; name another topic as the DLQ"
            facts.doc.find("dlq-schema", named, message, hint)
    for name, own in facts.handlers.items():
        for index, topic in enumerate(own.get("produces", [])):
            if _is_dlq(facts, topic):
                message = f"{facts.shown(topic)} is a DLQ: only kpipe writes dead letters"
                hint = "raise Reject in the handler, or produce to another topic"
                facts.doc.find("dlq-output", ("handlers", name, "produces", index), message, hint)


def _check_coverage(facts: PipelineFacts, name: str, own: dict[str, Any]) -> None:
    if handler_dlq(facts.doc.tree, own) is not None or facts.doc.refused("handlers", name, "dlq"):
        return
    if facts.doc.refused("defaults", "handler", "dlq"):
        return
    for index, consumed in enumerate(own.get("consumes", [])):
        topic = facts.topic(consumed)
        if topic is None or topic.is_dlq or topic.dlq or facts.doc.refused("topics", consumed, "dlq"):
            continue
        message = f"no DLQ takes the events of {facts.shown(consumed)} that `{name}` gives up on"
        hint = "name a `dlq` on the topic or the handler; `dlq: none` logs and skips such events instead"
        facts.doc.find("no-dlq", ("handlers", name, "consumes", index), message, hint)
