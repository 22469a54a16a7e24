"""`kpipe graph`: which handler reads and writes which topic, as text or as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import UsageError
from orchestrator.outside import shown

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

    It is drawn from the pipeline file; no Kafka is asked. While `kpipe up` runs, every handler has its state, the
    events a second that come in and are settled, and its lag.
    """
    if form is not None and app.json:
        raise UsageError("--format and --json both say what the graph looks like", "give one of them")
    pipeline = app.load()
    live = _live(app)
    if form == "mermaid":
        for line in _mermaid(pipeline, live):
            output.data(line)
    elif app.json:
        output.json_line(_as_json(pipeline, live))
    else:
        for line in _text(pipeline, live):
            output.data(line)


#: The entries of `kpipe ps`, by handler.
Live = Mapping[str, Mapping[str, Any]]
_LIVE = ("state", "in_per_second", "out_per_second", "lag")


def _live(app: App) -> Live:
    """What the handlers of the running pipeline do now; nothing when none runs, or does not answer."""
    from orchestrator.operations.control import ask_it, running, state_dir
    from orchestrator.supervisor.control.client import NoAnswer

    folder = state_dir(app)
    try:
        answer = ask_it(folder, "GET", "/v1/ps") if running(folder) is not None else None
    except NoAnswer:
        answer = None
    return {} if answer is None else {handler["name"]: handler for handler in answer["handlers"]}


def _live_text(now: Mapping[str, Any]) -> str:
    """`ready, 12.0 in/s, 11.5 out/s, lag 3`; of a service its state."""
    rates = (("in_per_second", "in/s"), ("out_per_second", "out/s"))
    told = [f"{now[field]:.1f} {unit}" for field, unit in rates if now[field] is not None]
    return ", ".join([now["state"], *told, *([] if now["lag"] is None else [f"lag {now['lag']}"])])


def edges(pipeline: Pipeline) -> list[Edge]:
    """Every arrow once, in the file's order."""
    found: list[Edge] = []
    first: dict[str, str] = {}
    for handler in pipeline.handlers.values():
        for topic in handler.consumes:
            first.setdefault(topic, handler.name)
    for handler in pipeline.handlers.values():
        found += [Edge(topic, handler.name, "consumes") for topic in handler.consumes]
        found += [Edge(handler.name, topic, "produces") for topic in handler.produces]
        found += [Edge(handler.name, dlq, "dead-letters") for dlq in _dlqs(pipeline, handler, first)]
    return list(dict.fromkeys(found))


def labels(pipeline: Pipeline) -> dict[str, str]:
    """How each topic may be shown: a DLQ whose name comes from outside of the file, as the file says it."""
    return {name: shown(topic.name) for name, topic in pipeline.topics.items()}


def _labelled(pipeline: Pipeline) -> list[Edge]:
    """Every arrow, with the topic as it may be shown."""
    label = labels(pipeline)
    return [
        Edge(label[source], target, kind) if kind == "consumes" else Edge(source, label[target], kind)
        for source, target, kind in edges(pipeline)
    ]


def _dlqs(pipeline: Pipeline, handler: Handler, first: Mapping[str, str]) -> list[str]:
    """The DLQs that this handler writes to: for what it gives up on, and as the `first` handler of a topic in the file
    also for events that break the topic's contract."""
    found = [
        *(pipeline.topics[topic].dlq for topic in handler.consumes if first[topic] == handler.name),
        *(pipeline.dlq_of(handler, topic) for topic in handler.consumes),
    ]
    return [dlq for dlq in dict.fromkeys(found) if dlq is not None]


def _text(pipeline: Pipeline, live: Live) -> Iterator[str]:
    read: dict[str, list[str]] = {}
    written: dict[tuple[str, str], list[str]] = {}
    for edge in _labelled(pipeline):
        if edge.kind == "consumes":
            read.setdefault(edge.target, []).append(edge.source)
        else:
            written.setdefault((edge.source, edge.kind), []).append(edge.target)
    for handler in pipeline.handlers.values():
        now = f"  {_live_text(live[handler.name])}" if handler.name in live else ""
        yield output.paint(handler.name, "bold") + output.paint(f"  {handler.kind}", "dim") + now
        yield from _listed("<-", read.get(handler.name, []))
        yield from _listed("->", written.get((handler.name, "produces"), []))
        yield from _listed("x>", written.get((handler.name, "dead-letters"), []))
    consumed = {topic for handler in pipeline.handlers.values() for topic in handler.consumes}
    unread = [t.name for t in pipeline.topics.values() if t.name not in consumed and not t.is_dlq]
    if unread:
        yield output.paint(f"read by no handler: {', '.join(unread)}", "dim")


def _listed(arrow: str, topics: list[str]) -> Iterator[str]:
    if topics:
        yield f"  {arrow} {', '.join(topics)}"


def _mermaid(pipeline: Pipeline, live: Live) -> Iterator[str]:
    """A flowchart (https://mermaid.js.org/syntax/flowchart.html): handlers are boxes, topics are rounded."""
    label = labels(pipeline)
    topics = {name: f"t{number}" for number, name in enumerate(pipeline.topics)}
    handlers = {name: f"h{number}" for number, name in enumerate(pipeline.handlers)}
    yield "flowchart LR"
    for name, node in handlers.items():
        now = f"<br>{_live_text(live[name])}" if name in live else ""
        yield f'  {node}["{name}{now}"]'
    for name, node in topics.items():
        yield f'  {node}(["{label[name]}"])' + (":::dlq" if pipeline.topics[name].is_dlq else "")
    for edge in edges(pipeline):
        nodes = (topics, handlers) if edge.kind == "consumes" else (handlers, topics)
        arrow = "-.->" if edge.kind == "dead-letters" else "-->"
        yield f"  {nodes[0][edge.source]} {arrow} {nodes[1][edge.target]}"
    yield "  classDef dlq stroke-dasharray: 4"


def _as_json(pipeline: Pipeline, live: Live) -> dict[str, object]:
    label = labels(pipeline)
    return {
        "handlers": [
            {
                "name": handler.name,
                "kind": handler.kind,
                "live": {field: live[handler.name][field] for field in _LIVE} if handler.name in live else None,
            }
            for handler in pipeline.handlers.values()
        ],
        "topics": [{"name": label[topic.name], "is_dlq": topic.is_dlq} for topic in pipeline.topics.values()],
        "edges": [{"from": edge.source, "to": edge.target, "kind": edge.kind} for edge in _labelled(pipeline)],
    }
