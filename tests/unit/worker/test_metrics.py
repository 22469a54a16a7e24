"""Metrics: counted, carried, added up, and read by a real Prometheus parser."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.errors import EXIT_HUNG
from orchestrator.observe.exposition import Processes, exposition
from orchestrator.observe.measured import Measured, OwnedPartition
from orchestrator.observe.meter import Meter
from orchestrator.observe.metrics import BOUNDS, METRICS
from orchestrator.observe.totals import Totals
from orchestrator.supervisor.metering import Metering, cause_of
from orchestrator.supervisor.reports import parse
from orchestrator.supervisor.spec import ChildExit
from orchestrator.worker.metrics import WorkerMetrics
from orchestrator.worker.status import StatusPipe
from tests.support.simulation import Life, World

ROOT = Path(__file__).parents[3]


def measured(done: int, **gauges: float) -> Measured:
    meter = Meter()
    for _ in range(done):
        meter.took(0.001)
    counts = {"kpipe_records_total": {"done": done}, "kpipe_attempts_total": {"ok": done}}
    return Measured(counts, {name: {"": value} for name, value in gauges.items()}, tuple(meter.buckets), meter.seconds)


def samples(*handlers: Processes) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(exposition(handlers))
    return {(s.name, *(s.labels[k] for k in sorted(s.labels))): s.value for family in families for s in family.samples}


def test_a_value_on_a_bound_is_below_it() -> None:
    meter = Meter()
    for seconds in (0.0, 0.0001, 0.00011, 30.0, 30.1, 1e9):
        meter.took(seconds)
    assert meter.buckets == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 2]
    assert meter.seconds == pytest.approx(sum((0.0, 0.0001, 0.00011, 30.0, 30.1, 1e9)))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 50))))
def test_no_counter_goes_backwards_whatever_restarts(reports: list[tuple[bool, int, int]]) -> None:
    """A process counts upwards from nothing; some of what it says may get lost."""
    totals = Totals()
    metering = Metering(totals)
    told, expected, records = 0, 0, 0
    for restarted, more, arrived in reports:
        if restarted:
            metering.begin()
            told = 0
            records = 0
        told += more
        records += arrived
        expected += more
        metering.saw(measured(told))
        metering.saw_places(parse(line("places", at=0, of=1, rows=[["t", 0, records, None, None, 0, 0]])).places)
        assert totals.counts["kpipe_records_total"]["done"] == expected
        assert sum(totals.buckets) == expected
    assert totals.records["t", 0] == sum(arrived for _, _, arrived in reports)


def line(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def test_partitions_count_when_all_parts_of_a_report_are_there() -> None:
    metering = Metering(Totals())
    first, second = [["t", 0, 1, 5, 0.5, 0, 0]], [["t", 1, 1, None, None, 0, 0]]
    metering.saw_places(parse(line("places", at=0, of=2, rows=first)).places)
    assert metering.places == ()
    metering.saw_places(parse(line("places", at=1, of=2, rows=second)).places)
    assert [place[:3] for place in metering.places] == [("t", 0, 1), ("t", 1, 1)]
    metering.saw_places(parse(line("places", at=0, of=1, rows=[])).places)
    assert metering.places == (), "they have gone to another one"


def test_any_number_of_partitions_fits_through_the_pipe() -> None:
    read, write = os.pipe()
    places = [OwnedPartition("t" * 249, n, 2**60, 2**60, 123456.789, 2**60, 123456.789) for n in range(100)]
    StatusPipe(write).measured(measured(3), places)
    lines = os.read(read, 1_000_000).splitlines(keepends=True)
    assert all(len(each) <= 4_096 for each in lines)
    metering = Metering(Totals())
    for each in lines[1:]:
        metering.saw_places(parse(each).places)
    assert list(metering.places) == places and parse(lines[0]).measured == measured(3)


@pytest.mark.parametrize(
    "said",
    [
        {"type": "metrics"},
        {"type": "metrics", **Measured().as_json(), "buckets": [1]},
        {"type": "metrics", **Measured().as_json(), "counts": {"other": {"": 1}}},
        {"type": "metrics", **Measured().as_json(), "gauges": {"kpipe_inflight": {"": -1}}},
        {"type": "metrics", **Measured().as_json(), "seconds": "1"},
        {"type": "places"},
        {"type": "places", "at": 0, "of": 1, "rows": [["t", 0]]},
        {"type": "places", "at": 0, "of": 1, "rows": [["t", 0, None, 1, 1, 1, 1]]},
    ],
)
def test_nonsense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse(json.dumps(said).encode())


def test_every_metric_is_on_the_page_and_a_parser_reads_it() -> None:
    totals = Totals()
    life = Life(world := World())
    world.append(0, "a", None)
    measures = WorkerMetrics(life.intake._facts.meter, life.ledger, life.loop._guard, lambda: None)
    totals.add(Measured(), measures.measured(2))
    totals.counts["kpipe_dlq_total"]["schema"] += 1
    totals.restarts["crashed"] += 1
    totals.add_places({}, [OwnedPartition("o", 0, 7)])
    page = Processes("h", totals, 2, 1, [measures.measured(2)], [OwnedPartition("o", 0, 7, 4, 1.5, 3, 0.25)])
    found = samples(page, Processes("other", Totals(), 1, 0, [], []))
    for metric in METRICS:
        name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
        assert any(key[0] == name and "h" in key for key in found), metric.name
    assert found["kpipe_lag_seconds", "h", "0", "o"] == 1.5
    assert found["kpipe_partition_records_total", "h", "0", "o"] == 7
    assert found["kpipe_paused", "h", "full"] == 2 and found["kpipe_handler_ready", "other"] == 0


def test_odd_names_are_escaped() -> None:
    totals = Totals()
    totals.restarts['a "quoted"\\ line\nbreak'] += 1
    assert samples(Processes("h", totals, 1, 0, [], []))[
        "kpipe_handler_restarts_total", 'a "quoted"\\ line\nbreak', "h"
    ]


def test_replicas_add_up_and_the_most_open_breaker_counts() -> None:
    totals = Totals()
    running = [
        measured(1, kpipe_inflight=2, kpipe_breaker_state=0),
        measured(1, kpipe_inflight=3, kpipe_breaker_state=2),
    ]
    found = samples(Processes("h", totals, 2, 2, running, []))
    assert (found["kpipe_inflight", "h"], found["kpipe_breaker_state", "h"]) == (5, 2)


def test_what_a_worker_measures() -> None:
    world = World()
    for n, key in enumerate(["a", "b", "a", "c"]):
        world.append(0, key, f"id-{n}")
    world.append(0, "d", "id-3")
    outcomes = iter(["ok", "retry", "silent", "ok", "ok"])
    world.draw = lambda record: next(outcomes)
    life = Life(world)
    life.assign(0)
    now = [100.0]
    meter = life.intake._facts.meter
    measures = WorkerMetrics(meter, life.ledger, life.loop._guard, lambda: None, lambda: now[0], lambda: 5_000.0)
    life.deliver(0, 5)
    life.loop.turn()
    life.loop.turn()  # the copy waits until its original has settled
    told = measures.measured(0)
    assert told.counts["kpipe_records_total"] == {"done": 3, "dead_lettered": 0, "skipped": 1}
    assert told.counts["kpipe_attempts_total"] == {"ok": 3, "retry": 1}
    assert told.counts["kpipe_dedup_hits_total"] == {"": 1}
    assert sum(told.buckets) == 4 and told.gauges["kpipe_inflight"] == {"": 1}
    (tp,) = (part.tp for part in life.ledger.partitions)
    (place,) = measures.places({tp: 4})
    assert (place.records, place.lag, place.frontier_lag, place.frontier_age) == (4, 4, 4, 0.0)
    assert place.lag_seconds == 5_000.0 - world.log[0][1].timestamp / 1000
    now[0] += 2.5
    assert measures.places({tp: None})[0].frontier_age == 2.5
    while life.loop.turn() or len(life.ledger.partitions[0].lanes):
        world.now += 1
    (place,) = measures.places({tp: 0})
    assert (place.records, place.lag_seconds, place.frontier_lag, place.frontier_age) == (5, 0.0, 0, 0.0)


def test_why_it_was_started_again() -> None:
    assert [cause_of(ChildExit(1)), cause_of(ChildExit(signal=9)), cause_of(ChildExit(EXIT_HUNG))] == [
        "crashed",
        "killed",
        "hung",
    ]


def test_the_page_about_metrics_has_each_of_them() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(kpipe_\w+)` \| (\w+) \|([^|]*)\|", page, flags=re.MULTILINE)
    labels = {name: tuple(re.findall(r"`(\w+)`", said)) for name, _, said in rows}
    assert [(name, kind) for name, kind, _ in rows] == [(metric.name, metric.kind) for metric in METRICS]
    assert labels == {metric.name: metric.labels for metric in METRICS}
