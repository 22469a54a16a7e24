"""`kpipe trace`: one event's story across all topics of the pipeline."""

from __future__ import annotations

import math

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output


@click.command("trace")
@click.argument("event", metavar="ID")
@click.option(
    "--since", type=DURATION, default="1h", show_default=True, metavar="DURATION", help="How far to look back."
)
@click.option(
    "-n",
    "most",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="Of many matching events, the last N.",
)
@click.pass_obj
def command(app: App, event: str, since: float, most: int) -> None:
    """Show what became of an event: who handled it, how it ended, how long it took, and what it caused.

    ID is an event's id (the `dedup.by` field), its key, a trace id, or a place: TOPIC/PARTITION/OFFSET, or the id of
    a dead letter. All topics of the pipeline are looked at, DLQs and redriven letters included. Nothing is consumed.
    Ends with 1 when there is no such event.
    """
    from orchestrator.cli.render import trace_tree
    from orchestrator.cli.render.scan_progress import ScanProgress
    from orchestrator.config.units import show_duration
    from orchestrator.operations.trace.collect import counted, trace_event

    trace = trace_event(app.project(), event, since, most, ScanProgress(filtered=True))
    if app.json:
        scanned = {
            "records": trace.records,
            "topics": trace.topics,
            "seconds": trace.seconds,
            "since_seconds": None if math.isinf(since) else since,
        }
        records = trace_tree.as_json(trace.roots, trace.outcomes)
        output.json_line(
            {
                "id": event,
                "records": records,
                "not_shown": trace.older,
                "truncated": trace.truncated,
                "scanned": scanned,
            }
        )
        return
    output.in_place("")
    output.data(trace_tree.as_text(trace.roots, trace.outcomes, colored=output.colored()))
    span = "" if math.isinf(since) else f", from the last {show_duration(int(since * 1000))} on"
    output.say(
        f"scanned {counted(trace.records, 'record')} of {counted(trace.topics, 'topic')}{span} in {trace.seconds:.1f} s"
    )
    if trace.older:
        output.say(f"{trace.older:,} older events match as well: `-n` shows more of them")
    if trace.truncated:
        output.say("the story is longer than what is shown: narrow it down with --since, or ask for one event's id")
