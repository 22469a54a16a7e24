"""`concurrency`: a handler that waits 10 ms for each event, one event at a time and a hundred at once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.cluster import Cluster
from benchmarks.contest import RUN_SECONDS, START_SECONDS, Contestant, Stage, kpipe
from benchmarks.process import usage

WARM_UP = 200
#: One event at a time is slow, and its rate is known soon.
ONE = Contestant("one", "one at a time", kpipe("one-at-a-time"), share=0.02, handler="one-at-a-time")
HUNDRED = (
    Contestant("hundred", "`concurrency: 100`, `async def`", kpipe("hundred"), handler="hundred"),
    Contestant("hundred-threads", "`concurrency: 100`, threads", kpipe("hundred-threads"), handler="hundred-threads"),
)


def rate(cluster: Cluster, folder: Path, contestant: Contestant, name: str, events: int) -> tuple[float, float]:
    """Events a second, and processor time an event in seconds."""
    with Stage(cluster, folder, contestant, name) as stage:
        cluster.fill(stage.source, WARM_UP, salt=1)
        with stage.start() as started:
            stage.wait(started, WARM_UP, START_SECONDS)
            (worker,) = started.workers()
            started.halt()
            cluster.fill(stage.source, events, salt=2)
            before, begun = usage(worker), time.perf_counter()
            started.go_on()
            stage.wait(started, WARM_UP + events, RUN_SECONDS)
            seconds, after = time.perf_counter() - begun, usage(worker)
    return events / seconds, (after.cpu - before.cpu) / events


def section(
    cluster: Cluster, folder: Path, name: Callable[[], str], events: int, repeats: int, say: Callable[[str], None]
) -> str:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(repeats):
        for one in (ONE, *HUNDRED):
            took = rate(cluster, folder, one, name(), max(200, int(events * one.share)))
            found[one.title].append(took)
            say(f"{one.title}: {took[0]:,.0f} events/s, {1e6 * took[1]:.0f} µs")
    rows = []
    for title, runs in found.items():
        times = median(run[0] / alone[0] for run, alone in zip(runs, found[ONE.title], strict=True))
        cpu = 1e6 * median(run[1] for run in runs)
        rows.append(f"| {title} | {median(run[0] for run in runs):,.0f} | {times:.1f} | {cpu:.0f} |\n")
    return (
        "## Handlers that wait\n\nEach event waits 10 ms and causes one; every event has a key of its own, in 3 "
        f"partitions. {events:,} events, medians of {repeats} run(s).\n\n"
        "| | events/s | times one at a time | µs of processor an event |\n|---|---|---|---|\n" + "".join(rows)
    )
