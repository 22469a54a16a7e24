"""What kpipe's processes hold: the supervisor, and a worker before and after many events, beside the loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import Cluster
from benchmarks.contest import LOOP, RUN_SECONDS, START_SECONDS, Contestant, Stage, kpipe
from benchmarks.process import usage

#: As kpipe is, and without what grows with every id.
CONTESTANTS = (
    Contestant("kpipe", "a worker", kpipe("kpipe")),
    Contestant("no-dedup", "a worker with `dedup: off`", kpipe("no-dedup"), handler="no-dedup"),
    LOOP,
)


class Held(NamedTuple):
    """Bytes: of the process that works, idle and afterwards, and of the one above it (0: there is none)."""

    idle: int
    after: int
    above: int


def held(cluster: Cluster, folder: Path, contestant: Contestant, name: str, events: int) -> Held:
    with Stage(cluster, folder, contestant, name) as stage:
        cluster.fill(stage.source, 100, salt=1)
        with stage.start() as started:
            stage.wait(started, 100, START_SECONDS)
            time.sleep(1.0)  # what is done once a second has been done
            (worker,), above = started.workers(), started.process.pid
            idle = usage(worker).rss
            cluster.fill(stage.source, events, salt=2)
            stage.wait(started, 100 + events, RUN_SECONDS)
            return Held(idle, usage(worker).rss, 0 if above == worker else usage(above).rss)


def section(cluster: Cluster, folder: Path, name: Callable[[], str], events: int, say: Callable[[str], None]) -> str:
    rows = []
    for one in CONTESTANTS:
        found = held(cluster, folder, one, name(), events)
        idle, after, above = (f"{size / 1e6:.0f}" if size else "-" for size in found)
        rows.append(f"| {one.title} | {idle} | {after} | {above} |\n")
        say(f"{one.title}: {idle} MB, {after} MB after {events:,} events; its supervisor {above} MB")
    return (
        f"## Memory\n\nResident memory in MB: connected and idle, after {events:,} events, and of `kpipe up` itself.\n"
        "\n| | idle | afterwards | supervisor |\n|---|---|---|---|\n" + "".join(rows)
    )
