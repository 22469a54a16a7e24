"""`kpipe handler check`: does a program keep the protocol of `exec:` handlers?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_EXPECTATION, EXIT_OK, UsageError

if TYPE_CHECKING:
    from orchestrator.worker.runners.conformance import ConformanceFinding


@click.group("handler")
def command() -> None:
    """Try handlers by themselves, without Kafka."""


@command.command("check")
@click.option("--event", metavar="NAME", help="Ask it about this event of the pipeline file, with fresh ids each time.")
@click.option("--value", metavar="JSON|@FILE", help="Ask it about events with this value, always the same.")
@click.option(
    "--timeout", type=DURATION, default="5s", metavar="TIME", help="How long an answer may take.  [default: 5s]"
)
@click.argument("argv", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
@click.pass_obj
def check(app: App, event: str | None, value: str | None, timeout: float, argv: tuple[str, ...]) -> int:
    """Start a program as an `exec:` handler is started, talk to it, and show what it does wrong.

    Nine checks, each with a program of its own: odd events, many at once, long lines, lines in pieces, full pipes, the
    end of its input. What it prints on stdout and stderr is shown. Without --event or --value the events are
    {"id": "event-1"} and so on. Ends with 0 when nothing failed (warnings are shown), 6 when a check did, 5 when the
    program could not be started.
    """
    from orchestrator.operations import handler_check

    if event is not None and value is not None:
        raise UsageError("--event and --value exclude each other")
    if event is not None:
        events = handler_check.events_named(app.project(), event)
    elif value is not None:
        events = handler_check.events_like(value)
    else:
        events = handler_check.numbered_events()
    findings = []
    for finding in handler_check.check_handler(argv, events, timeout):
        findings.append(finding)
        if not app.json:
            output.data(_line(finding))
            output.flush()
    failed = [f for f in findings if f.result == "failed"]
    if app.json:
        checks = [{"name": f.name, "result": f.result, "title": f.title, "message": f.message} for f in findings]
        output.json_line({"passed": not failed, "checks": checks})
    else:
        output.say(_summary(findings))
    return EXIT_EXPECTATION if failed else EXIT_OK


def _line(finding: ConformanceFinding) -> str:
    styles: dict[str, output.Style] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
    said = f"{output.paint(f'{finding.result:<8}', styles[finding.result])} {finding.title}"
    return f"{said}\n         {output.safe(finding.message)}" if finding.message else said


def _summary(findings: Sequence[ConformanceFinding]) -> str:
    failed = sum(f.result == "failed" for f in findings)
    warnings = sum(f.result == "warning" for f in findings)
    if failed:
        return f"{failed} of {len(findings)} checks failed; the protocol: docs/protocol.md"
    return "the program keeps the protocol" + (f", with {warnings} warning{'s' * (warnings > 1)}" if warnings else "")
