"""`kpipe scale`: how many replicas of a handler run."""

from __future__ import annotations

from collections.abc import Iterable

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output
from orchestrator.errors import UsageError


@click.command("scale")
@click.argument("counts", nargs=-1, required=True, metavar="HANDLER=N...")
@click.option(
    "--timeout", type=DURATION, default="2m", show_default=True, metavar="DURATION",
    help="How long it may take until all are ready, and those too many have stopped.",
)  # fmt: skip
@click.pass_obj
def command(app: App, counts: tuple[str, ...], timeout: float) -> None:
    """Run N replicas of a handler, until `kpipe up` ends; the pipeline file stays as it is.

    Kafka divides the partitions between them: more replicas than partitions do nothing. With 0 the handler stops, and
    its events wait in Kafka. Ends with 5 when a handler fails for good, and with 124 when the time is over.
    """
    from orchestrator.operations.control import scale, state_dir
    from orchestrator.operations.readiness import Deadline, until_scaled

    folder, wanted = state_dir(app.files[0]), parse_counts(counts)
    scale(folder, wanted)
    until_scaled(folder, wanted, Deadline(timeout))
    if app.json:
        output.json_line({"replicas": wanted})
    else:
        output.say("scaled: " + ", ".join(f"{name}={count}" for name, count in wanted.items()))


def parse_counts(words: Iterable[str]) -> dict[str, int]:
    """`payments=3` and so on. Raises `UsageError`."""
    counts: dict[str, int] = {}
    for word in words:
        name, _, count = word.partition("=")
        if not (name and count.isascii() and count.isdigit() and len(count) < 9):
            raise UsageError(f"{word}: not a handler and its number of replicas", "write it as in payments=3")
        if counts.setdefault(name, int(count)) != int(count):
            raise UsageError(f"`{name}` is given two numbers of replicas")
    return counts
