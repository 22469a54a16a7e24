"""`kpipe ps`: the handlers of the running pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli import present
from orchestrator.cli.context import App
from orchestrator.errors import UsageError


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
    from orchestrator.cli.running import state_dir

    folder = state_dir(app)
    if watch and not app.json and not present.movable():
        raise UsageError("--watch needs a terminal", "`kpipe ps --watch --json` prints a line every second anywhere")
    if watch:
        _watch(app, folder, everything)
    else:
        _once(app, folder, everything)


def _once(app: App, folder: Path, everything: bool) -> None:
    handlers = _ask(folder)
    if handlers is None and not app.json:
        present.say(f"nothing runs in {present.safe(str(folder.parent))}; `kpipe up` starts it")
        return
    _print(app, handlers or [], everything)


def _print(app: App, handlers: list[dict[str, Any]], everything: bool) -> None:
    from orchestrator.cli import overview

    wanted = overview.shown(handlers, everything=everything)
    if app.json:
        present.json_line({"handlers": wanted})
        return
    head, *rows = overview.lines(wanted, everything=everything)
    present.data(present.paint(head, "bold"))
    for row in rows:
        present.data(row)


def _watch(app: App, folder: Path, everything: bool) -> None:
    """A line of JSON every second, or a table that stays in its place; until the pipeline has ended."""
    import time

    from orchestrator.cli import overview
    from orchestrator.cli.live import Screen

    if app.json:
        while (handlers := _ask(folder)) is not None:
            _print(app, handlers, everything)
            present.flush()
            present.check_reader()
            time.sleep(1)
        return
    with Screen() as screen:
        while (handlers := _ask(folder)) is not None:
            screen.show(overview.lines(overview.shown(handlers, everything=everything), everything=everything))
            time.sleep(1)
    present.say(f"nothing runs in {present.safe(str(folder.parent))}; `kpipe up` starts it")


def _ask(folder: Path) -> list[dict[str, Any]] | None:
    """The handlers; None when nothing runs."""
    from orchestrator.cli.running import ask_it, running

    if running(folder) is None:
        return None
    answer = ask_it(folder, "GET", "/v1/ps")
    return None if answer is None else list(answer["handlers"])
