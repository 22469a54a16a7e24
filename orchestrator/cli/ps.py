"""`kpipe ps`: the handlers of the running pipeline."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli import present
from orchestrator.cli.context import App


@click.command("ps")
@click.pass_obj
def command(app: App) -> None:
    """Show the handlers of the pipeline that `kpipe up` runs for this folder.

    REPLICAS counts those that are ready and all. LAG is in records. Each handler's events add up:
    IN = DONE + DEAD-LETTERED + SKIPPED + IN FLIGHT. Services count no events. Nothing running is fine.
    """
    from orchestrator.cli.running import ask_it, running, state_dir

    folder = state_dir(app)
    found = running(folder)
    answer: dict[str, Any] | None = ask_it(folder, "GET", "/v1/ps") if found is not None else None
    if app.json:
        present.json_line({"handlers": answer["handlers"] if answer else []})
    elif answer is None:
        present.say(f"nothing runs in {present.safe(str(folder.parent))}; `kpipe up` starts it")
    else:
        _show(answer["handlers"])


def _show(handlers: list[dict[str, Any]]) -> None:
    from orchestrator.cli.report import PS_COLUMNS, ps_row

    present.table(PS_COLUMNS, [ps_row(handler) for handler in handlers])
    for handler in handlers:
        if handler["last_error"]:
            present.say(f"{handler['name']}: {present.safe(handler['last_error'])}")
