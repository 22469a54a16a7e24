"""`kpipe ps`: the handlers of the running pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.supervisor.control.status import HandlerStatus


@click.command("ps")
@click.option("-a", "--all", "everything", is_flag=True, help="Also handlers that do not run, and all accountings.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C or its end.")
@click.pass_obj
def command(app: App, everything: bool, watch: bool) -> None:
    """Show the handlers of the pipeline that `kpipe up` runs for this folder.

    REPLICAS counts those that are ready and all. IN/s and OUT/s are the events that came in and that were settled
    (done, dead-lettered or skipped) a second, over the last ten. LAG is in events, with the age of the oldest; DLQ
    counts the dead letters that the handler has written. Services count no events. Nothing running is fine.
    """
    from orchestrator.operations.control import state_dir

    folder = state_dir(app.files[0])
    if watch and not app.json and not output.movable():
        raise UsageError("--watch needs a terminal", "`kpipe ps --watch --json` prints a line every second anywhere")
    if watch:
        _watch(app, folder, everything)
    else:
        _once(app, folder, everything)


def _once(app: App, folder: Path, everything: bool) -> None:
    handlers = _ask(folder)
    if handlers is None and not app.json:
        output.say(f"nothing runs in {output.safe(str(folder.parent))}; `kpipe up` starts it")
        return
    _print(app, handlers or [], everything)


def _print(app: App, handlers: list[HandlerStatus], everything: bool) -> None:
    from orchestrator.cli.render import ps_table

    wanted = ps_table.shown(handlers, everything=everything)
    if app.json:
        output.json_line({"handlers": [handler.to_json() for handler in wanted]})
        return
    head, *rows = ps_table.lines(wanted, everything=everything)
    output.data(output.paint(head, "bold"))
    for row in rows:
        output.data(row)


def _watch(app: App, folder: Path, everything: bool) -> None:
    """A line of JSON every second, or a table that stays in its place; until the pipeline has ended."""
    import time

    from orchestrator.cli.render import ps_table
    from orchestrator.cli.render.live_lines import Screen

    if app.json:
        while (handlers := _ask(folder)) is not None:
            _print(app, handlers, everything)
            output.flush()
            output.check_reader()
            time.sleep(1)
        return
    with Screen() as screen:
        while (handlers := _ask(folder)) is not None:
            screen.show(ps_table.lines(ps_table.shown(handlers, everything=everything), everything=everything))
            time.sleep(1)
    output.say(f"nothing runs in {output.safe(str(folder.parent))}; `kpipe up` starts it")


def _ask(folder: Path) -> list[HandlerStatus] | None:
    """The handlers; None when nothing runs."""
    from orchestrator.operations.control import status

    answer = status(folder)
    return None if answer is None else list(answer.handlers)
