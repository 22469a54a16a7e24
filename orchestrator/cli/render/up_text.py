"""What `kpipe up` says about a running pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.config.model import Handler, Pipeline
from orchestrator.outside import shown
from orchestrator.supervisor.control.status import HandlerStatus
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.logs.files import Stream
from orchestrator.supervisor.logs.lines import Line
from orchestrator.supervisor.view import accounting_text


def ready_text(
    pipeline: Pipeline, handlers: Sequence[Handler], bootstrap: str, seconds: float, *, detached: bool = False
) -> str:
    """All is ready: where the services are, and what to do next."""
    lines = [f"ready after {seconds:.1f} s: {', '.join(h.name for h in handlers) or 'no handlers'}"]
    width = max((len(h.name) for h in handlers if h.port), default=0)
    lines += [f"  {h.name:<{width}}  http://localhost:{h.port}" for h in handlers if h.port]
    lines += [
        f"  Kafka answers at {shown(bootstrap)}; logs are in .kpipe/logs",
        f"next: {' · '.join(_next(pipeline, detached))}",
    ]
    return "\n".join(lines)


def _next(pipeline: Pipeline, detached: bool) -> Iterator[str]:
    event = next(iter(pipeline.events.values()), None)
    if event is not None:
        yield f"`kpipe send {event.name}`"
    topic = event.topic if event is not None else next(iter(pipeline.topics), None)
    if topic is not None:
        yield f"`kpipe tail -f {topic}`"
    yield "`kpipe ps`"
    yield "`kpipe logs -f` · `kpipe down` stops it" if detached else "Ctrl-C or `kpipe down` stops it"


def final_text(handlers: Sequence[HandlerStatus]) -> str:
    """The accounting line of every handler that counted events; "" when none did."""
    counted = [(handler.name, handler.accounting) for handler in handlers if handler.accounting]
    width = max((len(name) for name, _ in counted), default=0)
    return "\n".join(f"{name:<{width}}  {accounting_text(counts)}" for name, counts in counted)


def fact_json(fact: Fact) -> dict[str, Any]:
    """`{"type": "ready", "name": …}`: the fact's name in lower case with dashes, and its fields."""
    name = type(fact).__name__
    kind = "".join(f"-{char.lower()}" if char.isupper() else char for char in name).lstrip("-")
    fields = {key: value._asdict() if hasattr(value, "_asdict") else value for key, value in asdict(fact).items()}
    return {"type": kind, **fields}


def line_json(name: str, stream: Stream, line: Line) -> dict[str, Any]:
    return {"type": "line", "name": name, "stream": stream, "text": line.text, "partial": line.partial}


def duration(seconds: float) -> str:
    """`12s`, `3m 05s`, `2h 10m`, `5d 3h`."""
    whole = int(seconds)
    for size, unit, smaller, lower in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit} {rest:0{1 if lower == 'h' else 2}}{lower}"
    return f"{whole}s"
