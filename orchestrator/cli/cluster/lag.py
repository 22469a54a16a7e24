"""`kpipe lag`: how far each handler is behind, in events and in time, by Kafka's own word."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output

if TYPE_CHECKING:
    from orchestrator.operations.lag import HandlerLag


@click.command("lag")
@click.argument("handlers", nargs=-1, metavar="[HANDLER]...")
@click.pass_obj
def command(app: App, handlers: tuple[str, ...]) -> None:
    """Show how far handlers are behind: the events between what they have committed and the end.

    BEHIND is how long the oldest of those events has been waiting. It asks Kafka and not the running pipeline, so
    it works without one, too. An offset that a handler could not go on at is named below the table: one of a topic
    that was deleted and made anew, or one that the log does not have.
    """
    from orchestrator.operations.lag import handler_lags

    lags = handler_lags(app.project(), handlers)
    if app.json:
        output.json_line({"handlers": [asdict(lag) for lag in lags]})
    else:
        _show(lags)


def _show(handlers: list[HandlerLag]) -> None:
    from orchestrator.cli.render.up_text import duration

    rows = [
        (
            handler.name,
            part.topic,
            part.partition,
            part.committed,
            part.end,
            part.lag,
            None if part.lag_seconds is None else duration(part.lag_seconds),
        )
        for handler in handlers
        for part in handler.partitions
    ]
    output.table(("HANDLER", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND"), rows)
    for handler in handlers:
        for part in handler.partitions:
            if part.jump is not None:
                output.say(f"{handler.name}: {part.topic}[{part.partition}]: {_JUMPS[part.jump]}")


#: Why a handler would not go on where it committed, by `delivery.start.Cause`.
_JUMPS = {
    "remade": "the committed offset is of a topic that was deleted and made anew since: all of the new one is waiting",
    "removed": "the committed offset does not exist any more: events were removed unread by retention",
    "truncated": "the committed offset is beyond the end of the log, which has lost records",
    "beyond": "the committed offset is beyond the end of the log, and was not committed by this version of kpipe",
    "expired": "the committed offset has expired: the handler will start at the first event that exists",
}
