"""`kpipe restart`: start handlers of the running pipeline afresh."""

from __future__ import annotations

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output


@click.command("restart")
@click.argument("handlers", nargs=-1, required=True, metavar="HANDLER...")
@click.option(
    "--timeout", type=DURATION, default="2m", show_default=True, metavar="DURATION",
    help="How long they may take to be ready again.",
)  # fmt: skip
@click.pass_obj
def command(app: App, handlers: tuple[str, ...], timeout: float) -> None:
    """Stop handlers in order, start them again, and wait until they are ready.

    What a worker has begun it finishes and commits first. A handler that rests after a crash loop, or that could not
    start, is started too. The pipeline file and all that it names are read again and checked: when something is wrong
    there, nothing is restarted (2). Else the handlers start with the code, options and contracts of now; all others
    keep theirs. Ends with 5 when a handler fails for good, and with 124 when the time is over.
    """
    from orchestrator.operations.control import restart, state_dir
    from orchestrator.operations.readiness import Deadline, until_ready

    folder, names = state_dir(app.files[0]), tuple(dict.fromkeys(handlers))
    deadline = Deadline(timeout)
    restart(folder, names)
    until_ready(folder, names, deadline, began=True)
    if app.json:
        output.json_line({"restarted": list(names)})
    else:
        output.say(f"restarted: {', '.join(names)}")
