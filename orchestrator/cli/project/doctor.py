"""`kpipe doctor`: whether everything that kpipe needs is here, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, EXIT_UNEXPECTED

if TYPE_CHECKING:
    from orchestrator.cli.render.output import Style
    from orchestrator.operations.doctor import Check

_STYLES: dict[str, Style] = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.pass_obj
def command(app: App) -> int:
    """Check this machine and this folder: Python, the pipeline file, Kafka, Java, ports, disk, Docker, file limits.

    It changes nothing. Ends with 1 when something has to be mended first; warnings alone end with 0.
    """
    from orchestrator.operations.doctor import examine

    checks = []
    for check in examine(app.files, app.read):
        checks.append(check)
        if not app.json:
            _show(check)
    problems = sum(check.state == "problem" for check in checks)
    if app.json:
        output.json_line({"checks": [asdict(check) for check in checks]})
    else:
        output.say(f"{problems} problem{'' if problems == 1 else 's'}" if problems else "nothing stands in the way")
    return EXIT_UNEXPECTED if problems else EXIT_OK


def _show(check: Check) -> None:
    state = output.paint(f"{check.state:<7}", _STYLES[check.state])
    output.data(f"{state}  {check.name:<11}  {output.safe(check.message)}")
    if check.fix:
        output.data(f"{'':<22}{output.paint('fix:', 'cyan')} {output.safe(check.fix)}")
