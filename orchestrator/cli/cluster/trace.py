"""`kpipe trace`: one event's story across all topics of the pipeline."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output
from orchestrator.errors import KpipeError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.operations.records.progress import Scan
    from orchestrator.operations.trace.causality import Node, Outcome, Place, Reading
    from orchestrator.operations.trace.search import Scout, Window
    from orchestrator.records import Record, TopicPartition

_PLACE = re.compile(r"(?:(?P<group>.+)/)?(?P<topic>[^/]+)/(?P<partition>[0-9]{1,9})/(?P<offset>[0-9]{1,18})", re.ASCII)


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
    from orchestrator.operations.records.progress import Scan
    from orchestrator.operations.trace.causality import Reading
    from orchestrator.operations.trace.search import Scout, window

    pipeline = app.load()
    reading = Reading(pipeline)
    with app.reader(pipeline) as reader:
        looked = window(reader, reading.topics, since)
        scan = Scan(reader, None, filtered=True)
        began = time.monotonic()
        scout = Scout(scan.read, reader.at_time, reading, looked)
        found, count = _find(scout, pipeline, event, most)
        if not found:
            raise _nothing(event, since, looked, scan)
        roots = scout.follow(found)
    outcomes = outcomes_of(pipeline, app.bootstrap(pipeline), reading, roots)
    scanned = {
        "records": scan.scanned,
        "topics": looked.topics,
        "seconds": round(time.monotonic() - began, 3),
        "since_seconds": None if math.isinf(since) else since,
    }
    _show(app, event, roots, outcomes, scanned, count - len(found), scout.cut)


def outcomes_of(
    pipeline: Pipeline, bootstrap: str, reading: Reading, roots: Sequence[Node]
) -> dict[Place, list[Outcome]]:
    """What every handler made of every record that it gets, by what its group has committed."""
    from orchestrator.operations.trace.causality import outcome_of

    nodes = [node for root in roots for node in root.walk()]
    settled = _settled(pipeline, bootstrap, reading, nodes)
    return {
        node.place: [
            outcome_of(handler, node, (handler.name, node.place) in settled, nodes)
            for handler in reading.consumers(pipeline, node)
        ]
        for node in nodes
    }


def _settled(pipeline: Pipeline, bootstrap: str, reading: Reading, nodes: Sequence[Node]) -> set[tuple[str, Place]]:
    """The records that handlers have settled, as far as they have committed that for the topics as they are now."""
    from orchestrator.operations.group_positions import Standings, settled_by

    places: dict[str, list[Place]] = {}
    for node in nodes:
        for handler in reading.consumers(pipeline, node):
            places.setdefault(handler.name, []).append(node.place)
    settled = set()
    asked = Standings(pipeline, bootstrap)
    ids = asked.topic_ids(node.place.tp for node in nodes)
    for name, wanted in places.items():
        made = asked.commits(pipeline.handlers[name], {place.tp for place in wanted})
        settled |= {(name, place) for place in wanted if settled_by(made.get(place.tp), place, ids)}
    return settled


def _find(scout: Scout, pipeline: Pipeline, event: str, most: int) -> tuple[list[Record], int]:
    place = _place(pipeline, event, scout.window.ends)
    if place is not None:
        found = list(scout.at([place]))
        if found:
            return found, len(found)
    return scout.matching(_matcher(scout.reading, event), most)


def _place(pipeline: Pipeline, event: str, partitions: Mapping[TopicPartition, int]) -> Place | None:
    """`orders.created/1/42`, also with a group before it; None for what names no partition that there is."""
    from orchestrator.operations.trace.causality import Place

    said = _PLACE.fullmatch(event)
    if said is None:
        return None
    topic = pipeline.topics[said["topic"]].kafka_name if said["topic"] in pipeline.topics else said["topic"]
    place = Place(topic, int(said["partition"]), int(said["offset"]))
    return place if place.tp in partitions else None


def _matcher(reading: Reading, event: str) -> Callable[[Record], bool]:
    """Whether a record's key, event id or trace id is `event`."""
    from orchestrator.delivery.headers.dead_letters import read_letter
    from orchestrator.delivery.headers.lineage import trace_of

    raw = event.encode("utf-8", "surrogateescape")
    trace = event.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", event, re.ASCII) else None

    def wanted(record: Record) -> bool:
        if record.key == raw:
            return True
        if trace is not None and record.headers and trace_of(record.headers) == trace:
            return True
        # Reading every value as JSON would take longer than all the rest: first look whether the id is in it at all,
        # as it is or behind an escape.
        if record.value is not None and (raw in record.value or b"\\" in record.value):
            return reading.event_id(record, read_letter(record.headers)) == event
        return False

    return wanted


def _nothing(event: str, since: float, looked: Window, scan: Scan) -> KpipeError:
    span = "" if math.isinf(since) else f" of the last {_span(since)}"
    return KpipeError(
        f"no event{span} has the id, key or trace id {event}: "
        f"looked at {_count(scan.scanned, 'record')} of {_count(looked.topics, 'topic')}",
        "--since 7d looks further back; `kpipe tail TOPIC --grep TEXT` finds any text",
    )


def _show(
    app: App, event: str, roots: Sequence[Node], outcomes: Any, scanned: dict[str, Any], more: int, cut: bool
) -> None:
    from orchestrator.cli.render import trace_tree

    if app.json:
        records = trace_tree.as_json(roots, outcomes)
        output.json_line({"id": event, "records": records, "not_shown": more, "truncated": cut, "scanned": scanned})
        return
    output.in_place("")
    output.data(trace_tree.as_text(roots, outcomes, colored=output.colored()))
    since = scanned["since_seconds"]
    span = "" if since is None else f", from the last {_span(since)} on"
    output.say(
        f"scanned {_count(scanned['records'], 'record')} of {_count(scanned['topics'], 'topic')}{span} "
        f"in {scanned['seconds']:.1f} s"
    )
    if more:
        output.say(f"{more:,} older events match as well: `-n` shows more of them")
    if cut:
        output.say("the story is longer than what is shown: narrow it down with --since, or ask for one event's id")


def _span(seconds: float) -> str:
    from orchestrator.config.units import show_duration

    return show_duration(int(seconds * 1000))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
