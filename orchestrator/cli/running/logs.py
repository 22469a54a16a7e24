"""`kpipe logs`: what the handlers have printed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.supervisor.logs.history import LogEntry, Wanted

DEFAULT_COUNT = 100
_LOOK_EVERY = 0.1


@click.command("logs")
@click.argument("handlers", nargs=-1, metavar="[HANDLER]...")
@click.option("-f", "follow", is_flag=True, help="Then wait for new lines, until Ctrl-C.")
@click.option("-n", "last", type=click.IntRange(0), help="The last N lines.  [default: 100, or all with --since]")
@click.option("--since", type=DURATION, metavar="DURATION", help="Only lines of the last so long, such as 10m.")
@click.option("--grep", "pattern", metavar="RE", help="Only lines in which this regular expression is found.")
@click.pass_obj
def command(
    app: App, handlers: tuple[str, ...], follow: bool, last: int | None, since: float | None, pattern: str | None
) -> None:
    """Show what the handlers have printed, from .kpipe/logs: the last 100 lines of all of them, then end.

    Whether the pipeline runs or not. A replica is named with its number (payments.0); `_up` is what `kpipe up` itself
    has said, `kafka` the Kafka that it runs. With a handler's name only that one, in all of its replicas.
    """
    from orchestrator.operations.control import state_dir
    from orchestrator.supervisor.logs import history

    if last == 0 and not follow:
        raise UsageError("-n 0 shows nothing", "with -f it shows the lines that come from now on")
    folder = state_dir(app.files[0]) / "logs"
    _check(app, folder, handlers, follow)
    wanted = _filter(since, pattern)
    count = last if last is not None else None if since is not None else DEFAULT_COUNT

    def admit(name: str) -> bool:
        return not handlers or bool(history.of_handlers([name], handlers))

    followed = history.Followed(folder, admit) if follow else None
    show = _printer(app, [name for name in history.names(folder) if admit(name)])
    newest = _show(history.last(folder, filter(admit, history.names(folder)), count, wanted), show)
    if followed is not None:
        _follow(followed, wanted, show, newest)


def _check(app: App, folder: Path, handlers: Iterable[str], follow: bool) -> None:
    """Raises `UsageError` for a name that no log has and no handler, and when there is nothing to read at all."""
    from orchestrator.supervisor.logs import history
    from orchestrator.text import did_you_mean

    there = history.names(folder)
    if not there and not follow:
        raise UsageError(f"there are no logs in {folder}", "`kpipe up` writes them")
    missing = [name for name in handlers if not history.of_handlers(there, [name])]
    if not missing:
        return
    pipeline = app.read().pipeline
    known = {*(name.partition(".")[0] for name in there), *(pipeline.handlers if pipeline else ())}
    for name in missing:
        if name.partition(".")[0] not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(sorted(known))}"
            raise UsageError(f"there is no handler `{name}`, and no log of one", hint)


def _filter(since: float | None, pattern: str | None) -> Wanted:
    from orchestrator.supervisor.logs.history import stamp

    begin = "" if since is None else stamp(max(0.0, time.time() - since))
    try:
        found = re.compile(pattern or "")
    except re.error as wrong:
        raise UsageError(
            f"--grep {pattern}: {wrong}", "it is a regular expression of Python; \\ escapes a character"
        ) from wrong
    return lambda entry: entry.at >= begin and found.search(entry.text) is not None


def _printer(app: App, names: Iterable[str]) -> Callable[[LogEntry], None]:
    if app.json:
        return lambda entry: output.json_line(_json(entry))
    width = max(map(len, names), default=0)

    def show(entry: LogEntry) -> None:
        text = output.safe(entry.text.replace("\t", "    "))
        prefix = output.paint(f"{entry.name:<{width}} | ", "cyan")
        output.data(f"{prefix}{text}{' …' if entry.partial else ''}")

    return show


def _json(entry: LogEntry) -> dict[str, object]:
    return {
        "time": entry.at,
        "name": entry.name,
        "stream": entry.stream,
        "text": entry.text,
        "partial": entry.partial,
    }


def _show(entries: Iterable[LogEntry], show: Callable[[LogEntry], None]) -> dict[str, str]:
    """Show them; returns the time of each child's newest."""
    newest: dict[str, str] = {}
    for entry in entries:
        show(entry)
        newest[entry.name] = entry.at
    return newest


def _follow(followed: object, wanted: Wanted, show: Callable[[LogEntry], None], newest: dict[str, str]) -> None:
    from orchestrator.supervisor.logs.history import Followed

    assert isinstance(followed, Followed)
    while True:
        for entry in followed.new():
            # What was written between opening the files and reading them was shown already.
            if wanted(entry) and entry.at > newest.get(entry.name, ""):
                show(entry)
        newest = {}
        output.flush()
        output.check_reader()
        time.sleep(_LOOK_EVERY)
