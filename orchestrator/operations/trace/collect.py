"""Tracing an event: the search for all records that belong to it, and what became of each."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config.units import show_duration
from orchestrator.errors import KpipeError
from orchestrator.operations.records.progress import Scan, Watcher
from orchestrator.operations.trace.causality import HandlerOutcome, Node, RecordPlace, RecordReader
from orchestrator.operations.trace.outcomes import outcomes_of
from orchestrator.operations.trace.search import Scout, SearchWindow, find, window

if TYPE_CHECKING:
    from orchestrator.operations.loading import Project


@dataclass(frozen=True, slots=True)
class Trace:
    """An event and everything that belongs to it.

    `roots` are the events that nothing caused, with all below them; `outcomes` has one outcome for each handler that
    gets a record, by the record's place. `older` counts matching events that were left out; with `truncated` there is
    more than fits. `records` of `topics` topics were looked at, for `seconds`.
    """

    roots: tuple[Node, ...]
    outcomes: Mapping[RecordPlace, list[HandlerOutcome]]
    older: int
    truncated: bool
    records: int
    topics: int
    seconds: float


def trace_event(
    project: Project, event: str, since: float = 3600.0, most: int = 20, watcher: Watcher | None = None
) -> Trace:
    """The last `most` events of the last `since` seconds (infinite: all) whose id, key, trace id or place is `event`.

    Raises KpipeError when there is none, BrokerError.
    """
    pipeline = project.pipeline
    reading = RecordReader(pipeline)
    with project.reader() as reader:
        looked = window(reader, reading.topics, since)
        scan = Scan(reader, watcher or Watcher())
        began = time.monotonic()
        scout = Scout(scan.read, reader.at_time, reading, looked)
        records, count = find(scout, pipeline, event, most)
        if not records:
            raise _nothing(event, since, looked, scan)
        roots = scout.follow(records)
    outcomes = outcomes_of(pipeline, project.bootstrap, reading, roots)
    took = round(time.monotonic() - began, 3)
    return Trace(tuple(roots), outcomes, count - len(records), scout.cut, scan.scanned, looked.topics, took)


def _nothing(event: str, since: float, looked: SearchWindow, scan: Scan) -> KpipeError:
    span = "" if math.isinf(since) else f" of the last {show_duration(int(since * 1000))}"
    return KpipeError(
        f"no event{span} has the id, key or trace id {event}: "
        f"looked at {counted(scan.scanned, 'record')} of {counted(looked.topics, 'topic')}",
        "--since 7d looks further back; `kpipe tail TOPIC --grep TEXT` finds any text",
    )


def counted(number: int, what: str) -> str:
    """`1 record`, `1,204 records`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
