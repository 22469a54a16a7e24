"""`make bench`: measures kpipe beside others and writes docs/benchmarks.md.

EVENTS (200000) and REPEATS (5) make it shorter; ONLY names what to run, such as `ONLY=kpipe,loop` (the page is then
left as it is), or `ONLY=streams,starts,concurrency,memory` for what is beside the main table. KAFKA_BOOTSTRAP is a
Kafka to use instead of one of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmarks import contest, latency, memory, report, waiting
from benchmarks.cluster import Cluster, kafka
from benchmarks.commands import Commands
from benchmarks.contest import PROJECT, Contestant, Result
from benchmarks.latency import Latency

LEAST_EVENTS = 2_000


class Bench:
    """One run of the command: what was measured so far."""

    def __init__(self, cluster: Cluster, folder: Path, only: frozenset[str]) -> None:
        self._cluster = cluster
        self._folder = folder
        self._only = only
        self._run = 0
        self.results: dict[str, list[Result]] = defaultdict(list)
        self.latencies: dict[tuple[int, str], list[Latency]] = defaultdict(list)
        self.failed: dict[str, str] = {}

    def wants(self, *names: str) -> bool:
        return not self._only or bool(self._only.intersection(names))

    def contest(self, events: int, repeats: int) -> None:
        for _ in range(repeats):
            for one in contest.ALL:
                if self.wants(one.name) and one.name not in self.failed:
                    self._one(one, max(LEAST_EVENTS, int(events * one.share)))

    def _one(self, contestant: Contestant, events: int) -> None:
        try:
            result = contest.run(self._cluster, self._folder, contestant, self._name(), events)
        except (OSError, RuntimeError) as e:
            self.failed[contestant.name] = str(e).strip().splitlines()[-1]
            say(f"{contestant.title}: {e}")
            return
        self.results[contestant.name].append(result)
        say(f"{contestant.title}: {1e6 * result.cpu:.1f} µs, {result.rate:,.0f} events/s, {result.rss / 1e6:.0f} MB")

    def latency(self, repeats: int) -> None:
        for _ in range(repeats):
            for rate in latency.RATES:
                for one in latency.CONTESTANTS:
                    took = latency.run(self._cluster, self._folder, one, self._name(), rate)
                    self.latencies[rate, one.name].append(took)
                    say(f"{one.title} at {rate} events/s: p50 {took.p50:.1f} ms, p99 {took.p99:.1f} ms")

    def others(self, events: int, repeats: int) -> list[str]:
        """What is beside the main table, as sections of the page."""
        sections = []
        commands = Commands(self._cluster, self._folder, say)
        if self.wants("streams"):
            sections.append(commands.streams(events, repeats))
        if self.wants("concurrency"):
            waiting_events = max(2_000, events // 10)
            sections.append(waiting.section(self._cluster, self._folder, self._name, waiting_events, repeats, say))
        if self.wants("starts"):
            sections.append(commands.starts(repeats))
        if self.wants("memory"):
            sections.append(memory.section(self._cluster, self._folder, self._name, events, say))
        return sections

    def _name(self) -> str:
        self._run += 1
        return f"b{os.getpid()}-{self._run}"


def main() -> int:
    events = int(os.environ.get("EVENTS") or 200_000)
    repeats = int(os.environ.get("REPEATS") or 5)
    only = frozenset(filter(None, os.environ.get("ONLY", "").split(",")))
    with tempfile.TemporaryDirectory(prefix="kpipe-bench-") as made:
        folder = Path(made) / "project"
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
        with kafka(folder) as bootstrap:
            cluster = Cluster(bootstrap)
            bench = Bench(cluster, folder, only)
            bench.contest(events, repeats)
            if bench.wants("latency"):
                bench.latency(min(repeats, 3))
            sections = bench.others(events, min(repeats, 3))
            cluster.close()
    size = len(contest.sample())
    if only:
        say("\n".join(sections))
        say("ONLY was given: docs/benchmarks.md is left as it is")
    else:
        report.write(bench.results, bench.latencies, sections, bench.failed, events=events, repeats=repeats, size=size)
        say(f"wrote {report.PAGE}")
    summary(bench.results)
    return 0


def summary(results: dict[str, list[Result]]) -> None:
    """The medians, and what kpipe costs beside the loop."""
    for name, runs in results.items():
        say(f"{name}: {1e6 * median(run.cpu for run in runs):.2f} µs, {median(run.rate for run in runs):,.0f} events/s")
    ours, loop = results.get("kpipe", []), results.get("loop", [])
    ratios = [run.cpu / other.cpu for run, other in zip(ours, loop, strict=False)]
    if ratios:
        say(f"kpipe costs {median(ratios):.2f} times the loop")


def say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
