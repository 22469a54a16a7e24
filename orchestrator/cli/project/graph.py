"""`kpipe graph`: which handler reads and writes which topic, as text or as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import UsageError
from orchestrator.operations.graph import edges, labelled_edges, labels
from orchestrator.supervisor.control.status import HandlerStatus

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline


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
Live = Mapping[str, HandlerStatus]
_LIVE = ("state", "in_per_second", "out_per_second", "lag")


def _live(app: App) -> Live:
    """What the handlers of the running pipeline do now; nothing when none runs, or does not answer."""
    from orchestrator.operations.control import state_dir, status
    from orchestrator.supervisor.control.client import NoAnswer

    folder = state_dir(app.files[0])
    try:
        answer = status(folder)
    except NoAnswer:
        answer = None
    return {} if answer is None else {handler.name: handler for handler in answer.handlers}


def _live_text(now: HandlerStatus) -> str:
    """`ready, 12.0 in/s, 11.5 out/s, lag 3`; of a service its state."""
    rates = ((now.in_per_second, "in/s"), (now.out_per_second, "out/s"))
    speeds = [f"{rate:.1f} {unit}" for rate, unit in rates if rate is not None]
    return ", ".join([now.state, *speeds, *([] if now.lag is None else [f"lag {now.lag}"])])


def _text(pipeline: Pipeline, live: Live) -> Iterator[str]:
    read: dict[str, list[str]] = {}
    written: dict[tuple[str, str], list[str]] = {}
    for edge in labelled_edges(pipeline):
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
                "live": {field: getattr(live[handler.name], field) for field in _LIVE}
                if handler.name in live
                else None,
            }
            for handler in pipeline.handlers.values()
        ],
        "topics": [{"name": label[topic.name], "is_dlq": topic.is_dlq} for topic in pipeline.topics.values()],
        "edges": [{"from": edge.source, "to": edge.target, "kind": edge.kind} for edge in labelled_edges(pipeline)],
    }


def _live_json(now: HandlerStatus | None) -> dict[str, Any] | None:
    return None if now is None else {field: getattr(now, field) for field in _LIVE}
