"""`kpipe graph`: which handler reads and writes which topic, as text or as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from orchestrator.cli import present
from orchestrator.cli.context import App
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import Handler, Pipeline

EdgeKind = Literal["consumes", "produces", "dead-letters"]


class Edge(NamedTuple):
    """One arrow between a topic and a handler; `kind` is what the handler does."""

    source: str
    target: str
    kind: EdgeKind


@click.command("graph")
@click.option("--format", "form", type=click.Choice(["text", "mermaid"]), help="How to draw it.  [default: text]")
@click.pass_obj
def command(app: App, form: str | None) -> None:
    """Show the pipeline as a graph: handlers, the topics between them, and where dead letters go.

    It is drawn from the pipeline file; no Kafka is asked.
    """
    if form is not None and app.json:
        raise UsageError("--format and --json both say what the graph looks like", "give one of them")
    pipeline = app.load()
    if form == "mermaid":
        for line in _mermaid(pipeline):
            present.data(line)
    elif app.json:
        present.json_line(_as_json(pipeline))
    else:
        for line in _text(pipeline):
            present.data(line)


def edges(pipeline: Pipeline) -> list[Edge]:
    """Every arrow once, in the file's order."""
    found: list[Edge] = []
    for handler in pipeline.handlers.values():
        found += [Edge(topic, handler.name, "consumes") for topic in handler.consumes]
        found += [Edge(handler.name, topic, "produces") for topic in handler.produces]
        found += [Edge(handler.name, dlq, "dead-letters") for dlq in _dlqs(pipeline, handler)]
    return list(dict.fromkeys(found))


def _dlqs(pipeline: Pipeline, handler: Handler) -> list[str]:
    """The DLQs that this handler writes to: for what it gives up on, and as the first handler of a topic in the file
    also for events that break the topic's contract."""
    first = [topic for topic in handler.consumes if pipeline.handlers_of(topic)[0] is handler]
    found = [
        *(pipeline.topics[topic].dlq for topic in first),
        *(pipeline.dlq_of(handler, topic) for topic in handler.consumes),
    ]
    return [dlq for dlq in dict.fromkeys(found) if dlq is not None]


def _text(pipeline: Pipeline) -> Iterator[str]:
    arrows = edges(pipeline)
    for handler in pipeline.handlers.values():
        yield present.paint(handler.name, "bold") + present.paint(f"  {handler.kind}", "dim")
        yield from _listed("<-", [edge.source for edge in arrows if edge.target == handler.name])
        yield from _listed("->", [e.target for e in arrows if e.source == handler.name and e.kind == "produces"])
        yield from _listed("x>", [e.target for e in arrows if e.source == handler.name and e.kind == "dead-letters"])
    unread = [t.name for t in pipeline.topics.values() if not pipeline.handlers_of(t.name) and not t.is_dlq]
    if unread:
        yield present.paint(f"read by no handler: {', '.join(unread)}", "dim")


def _listed(arrow: str, topics: list[str]) -> Iterator[str]:
    if topics:
        yield f"  {arrow} {', '.join(topics)}"


def _mermaid(pipeline: Pipeline) -> Iterator[str]:
    """A flowchart (https://mermaid.js.org/syntax/flowchart.html): handlers are boxes, topics are rounded."""
    topics = {name: f"t{number}" for number, name in enumerate(pipeline.topics)}
    handlers = {name: f"h{number}" for number, name in enumerate(pipeline.handlers)}
    yield "flowchart LR"
    for name, node in handlers.items():
        yield f'  {node}["{name}"]'
    for name, node in topics.items():
        yield f'  {node}(["{name}"])' + (":::dlq" if pipeline.topics[name].is_dlq else "")
    for edge in edges(pipeline):
        nodes = (topics, handlers) if edge.kind == "consumes" else (handlers, topics)
        arrow = "-.->" if edge.kind == "dead-letters" else "-->"
        yield f"  {nodes[0][edge.source]} {arrow} {nodes[1][edge.target]}"
    yield "  classDef dlq stroke-dasharray: 4"


def _as_json(pipeline: Pipeline) -> dict[str, object]:
    return {
        "handlers": [{"name": handler.name, "kind": handler.kind} for handler in pipeline.handlers.values()],
        "topics": [{"name": topic.name, "is_dlq": topic.is_dlq} for topic in pipeline.topics.values()],
        "edges": [{"from": edge.source, "to": edge.target, "kind": edge.kind} for edge in edges(pipeline)],
    }
