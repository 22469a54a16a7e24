"""How `kpipe trace` shows a story: as a tree for people, and as JSON (docs/json.md)."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from orchestrator.cli.render import output
from orchestrator.operations.trace.causality import HandlerOutcome, Node, RecordPlace

Outcomes = Mapping[RecordPlace, Sequence[HandlerOutcome]]

#: Lines are never cut: a terminal breaks those that are too long for it.
_WIDTH = 10_000
_COLORS = {"done": "green", "dead-lettered": "red", "skipped": "yellow", "pending": "yellow"}


class _Page(io.StringIO):
    """Text for stdout: where that has no box characters, rich takes others."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding or "utf-8"


def as_text(roots: Sequence[Node], outcomes: Outcomes, *, colored: bool) -> str:
    """One tree for each event that nothing caused, for stdout."""
    page = _Page()
    console = Console(
        file=page, no_color=not colored, force_terminal=colored, color_system="standard" if colored else None,
        highlight=False, emoji=False, markup=False, width=_WIDTH,
    )  # fmt: skip
    for root in roots:
        tree = Tree(_event(root, root), guide_style="dim")
        _grow(tree, root, outcomes)
        console.print(tree)
    return page.getvalue().rstrip("\n")


def _grow(tree: Tree, root: Node, outcomes: Outcomes) -> None:
    waiting = [(tree, root)]
    while waiting:  # a chain of events may be longer than Python calls itself
        branch, node = waiting.pop()
        told: set[RecordPlace] = set()
        for outcome in outcomes.get(node.place, ()):
            below = branch.add(_handler(outcome, node))
            told.update(effect.place for effect in outcome.effects)
            waiting += [(below.add(_event(effect, root)), effect) for effect in outcome.effects]
        others = (effect for effect in node.effects if effect.place not in told)
        waiting += [(branch.add(_event(effect, root)), effect) for effect in others]


def _event(node: Node, root: Node) -> Text:
    """`orders.created[1]@42  12:00:01.123  +12 ms  key o-1  id 8f2c`."""
    text = Text()
    if node.matched:
        text.append("→ ", "bold yellow")
    text.append(f"{output.safe(node.topic)}[{node.record.partition}]@{node.record.offset}", "cyan")
    text.append(f"  {clock(node.record.timestamp)}", "dim")
    since = node.since(root)
    if node is not root and since is not None:
        text.append(f"  {latency(since)}", "bold")
    if node.record.key is not None:
        text.append(f"  key {_text(node.record.key)}", "green")
    if node.event_id is not None and node.kind == "event":
        text.append(f"  id {output.safe(node.event_id)}")
    if node.kind == "letter" and node.letter is not None:
        said = ": ".join(filter(None, (node.letter.error_type, node.letter.error_message)))
        text.append(f"  {_clipped(output.safe(said))}", "red")
    if node.kind == "redriven" and node.letter is not None:
        text.append(f"  redriven to {_handler_of(node)}", "magenta")
    if node.parent is None and node.cause is not None:
        text.append(f"  (its cause {'/'.join(map(str, node.cause))} is no longer there)", "dim")
    return text


def _handler(outcome: HandlerOutcome, node: Node) -> Text:
    text = Text(outcome.handler, "bold")
    text.append(f"  {outcome.outcome}", _COLORS[outcome.outcome])
    if outcome.reason:
        text.append(f": {output.safe(outcome.reason)}")
    if outcome.attempts:
        text.append(f", attempt {outcome.attempts}" if outcome.outcome == "done" else _attempts(outcome.attempts))
    times = [since for effect in outcome.effects if (since := effect.since(node)) is not None]
    if times:
        text.append(f", {latency(max(times))}", "dim")
    return text


def _attempts(count: int) -> str:
    return f", {count} attempt{'' if count == 1 else 's'}"


def _handler_of(node: Node) -> str:
    return output.safe(node.topic.removesuffix(".redrive").rpartition(".")[2])


def as_json(roots: Sequence[Node], outcomes: Outcomes) -> list[dict[str, Any]]:
    """Every record, causes before their effects, in the shape of docs/json.md."""
    return [_record(node, root, outcomes.get(node.place, ())) for root in roots for node in root.walk()]


def _record(node: Node, root: Node, outcomes: Iterable[HandlerOutcome]) -> dict[str, Any]:
    record = node.record
    return {
        "topic": node.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": None if record.timestamp < 0 else record.timestamp,
        "key": None if record.key is None else _text(record.key),
        "kind": node.kind,
        "matched": node.matched,
        "event_id": node.event_id,
        "trace_id": node.trace,
        "caused_by": _place(node.parent.place if node.parent else node.cause),
        "group": node.via or None,
        "attempt": node.attempt or None,
        "latency_ms": node.since(node.parent),
        "total_ms": node.since(root),
        "reason": (node.letter.reason or None) if node.letter else None,
        "error": _error(node),
        "redrive_count": node.letter.redrive_count if node.letter else 0,
        "handlers": [
            {
                "name": outcome.handler,
                "outcome": outcome.outcome,
                "attempts": outcome.attempts,
                "reason": outcome.reason or None,
                "effects": [_place(effect.place) for effect in outcome.effects],
            }
            for outcome in outcomes
        ],
    }


def _place(place: RecordPlace | None) -> dict[str, Any] | None:
    return None if place is None else place._asdict()


def _error(node: Node) -> str | None:
    if node.letter is None:
        return None
    return ": ".join(filter(None, (node.letter.error_type, node.letter.error_message))) or None


def clock(timestamp: int) -> str:
    """The time of day, local."""
    try:
        return "-" if timestamp < 0 else datetime.fromtimestamp(timestamp / 1000).time().isoformat("milliseconds")
    except (OverflowError, ValueError, OSError):  # a producer may send any number
        return str(timestamp)


def latency(ms: int) -> str:
    """`+12 ms`, `+3.4 s`, `+12 min`."""
    size = abs(ms)
    sign = "+" if ms >= 0 else "-"
    if size < 1000:
        return f"{sign}{size} ms"
    return f"{sign}{size / 1000:.1f} s" if size < 120_000 else f"{sign}{size // 60_000} min"


def _text(raw: bytes) -> str:
    return output.safe(raw.decode("utf-8", "backslashreplace"))


def _clipped(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"
