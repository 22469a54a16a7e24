"""The table of `kpipe ps`: what `GET /v1/ps` answers, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.cli.render import output
from orchestrator.cli.render.up_text import duration
from orchestrator.supervisor.control.status import HandlerStatus
from orchestrator.supervisor.policy import FAILURES, State
from orchestrator.supervisor.view import accounting_text

COLUMNS = ("HANDLER", "STATE", "REPLICAS", "UP", "RESTARTS", "IN/s", "OUT/s", "LAG", "DLQ")
_LONGEST_ERROR = 300


def shown(handlers: Sequence[HandlerStatus], *, everything: bool) -> list[HandlerStatus]:
    """Those that run or should; with `everything` also those that do not and need not."""
    return [h for h in handlers if everything or h.state != State.STOPPED]


def lines(handlers: Sequence[HandlerStatus], *, everything: bool = False) -> Iterator[str]:
    """The head of the table, and for each handler its row, its accounting (`everything`) and its last error."""
    head, *rows = output.table_lines(COLUMNS, [_row(handler) for handler in handlers])
    yield head
    for handler, row in zip(handlers, rows, strict=True):
        yield row
        if everything and handler.accounting:
            yield f"  {accounting_text(handler.accounting)}"
        if handler.last_error:
            yield f"  {_error(handler)}"


def _row(handler: HandlerStatus) -> tuple[object, ...]:
    counts = handler.accounting or {}
    return (
        handler.name,
        _state(handler),
        f"{handler.ready}/{handler.replicas}",
        None if handler.up_seconds is None else duration(handler.up_seconds),
        handler.restarts,
        _rate(handler.in_per_second),
        _rate(handler.out_per_second),
        _lag(handler.lag, handler.lag_seconds),
        counts.get("dead_lettered"),
    )


def _state(handler: HandlerStatus) -> str:
    """The state, and that the handler waits by itself where it does."""
    breaker = handler.breaker
    return str(handler.state) if breaker in (None, "closed") else f"{handler.state}, breaker {breaker}"


def _lag(events: int | None, seconds: float | None) -> str | None:
    """Events and how old the oldest of them is, where there are any: `12, 3.4s`."""
    if events is None:
        return None
    age = "" if seconds is None else f"{seconds:.1f}s" if seconds < 10 else duration(seconds)
    return f"{events}, {age}" if events and seconds is not None else str(events)


def _rate(per_second: float | None) -> str | None:
    if per_second is None:
        return None
    return f"{per_second:.1f}" if 0 < per_second < 10 else f"{per_second:,.0f}"


def _error(handler: HandlerStatus) -> str:
    """What went wrong last, and how to see more of it."""
    text = output.safe((handler.last_error or "").replace("\n", " "))
    short = text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + "…"
    again = f" · `kpipe restart {handler.name}`" if handler.state in FAILURES else ""
    return f"last error: {short}  (`kpipe logs {handler.name}`{again})"
