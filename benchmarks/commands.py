"""The commands: how fast `tail` and `send` are beside kcat (where it is installed), and how long a start takes.

What a command does is its own, so a command is measured as a whole, from its start to its end: by the clock, and by the
processor time of it and of all that it started.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.cluster import KPIPE, Cluster
from benchmarks.project.workload import event

#: Events that `send` makes from the file's example: one costs many times what reading one does.
SENT_SHARE = 0.1


class Command(NamedTuple):
    """A command line for the shell; `$T` is the topic. `beside` is what it is compared with."""

    title: str
    line: str
    beside: str = ""


class Cost(NamedTuple):
    """Seconds by the clock, and of processor time."""

    wall: float
    cpu: float


KPIPE_LINE = " ".join(f"'{word}'" for word in KPIPE)
_OUT = "> out"
TAILS = (
    Command("kcat", f"kcat -C -b $KAFKA_BOOTSTRAP -t $T -o beginning -e -q {_OUT}"),
    Command("`tail --format %v`", f"{KPIPE_LINE} tail $T -o beginning --format %v {_OUT}", "kcat"),
    Command("`tail`", f"{KPIPE_LINE} tail $T -o beginning {_OUT}", "kcat"),
    Command("`tail --json`", f"{KPIPE_LINE} tail $T -o beginning --json {_OUT}", "kcat"),
    Command("kcat, then grep", f"kcat -C -b $KAFKA_BOOTSTRAP -t $T -o beginning -e -q | grep user-77 {_OUT}"),
    Command("`tail --grep`", f"{KPIPE_LINE} tail $T -o beginning --grep user-77 {_OUT}", "kcat, then grep"),
    Command(
        "`tail --where`", f"{KPIPE_LINE} tail $T -o beginning --where \"value.userId == 'user-77'\" {_OUT}",
        "kcat, then grep",
    ),
)  # fmt: skip
SENDS = (
    Command("kcat", "kcat -P -b $KAFKA_BOOTSTRAP -t $T -X acks=all -X enable.idempotence=true < lines"),
    Command("`send TOPIC -`", f"{KPIPE_LINE} send orders - < lines {_OUT}", "kcat"),
    Command("`send -n`", f"{KPIPE_LINE} send order -n $N {_OUT}", "kcat"),
)
STARTS = (
    Command("`kpipe --help`", f"{KPIPE_LINE} --help {_OUT}"),
    Command("`kpipe validate`", f"{KPIPE_LINE} validate {_OUT}"),
    Command("`kpipe send`, one event", f"{KPIPE_LINE} send order {_OUT}"),
    Command("`kpipe tail`, the last ten", f"{KPIPE_LINE} tail orders {_OUT}"),
)


def run(line: str, folder: Path, env: Mapping[str, str]) -> Cost:
    """Raises RuntimeError when it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=dict(env), capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{line}: exit code {done.returncode}: {done.stderr[-500:]}")
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class Commands:
    """Measures them in turns, in topics of their own."""

    def __init__(self, cluster: Cluster, folder: Path, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._folder = folder
        self._say = say
        self._run = f"c{os.getpid()}"
        self._topic = f"{self._run}.orders"
        # The tests of kpipe itself may forbid Python to keep what it compiled; who uses kpipe has it.
        self._env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
            "KAFKA_BOOTSTRAP": cluster.bootstrap, "BENCH_RUN": self._run, "T": self._topic,
        }  # fmt: skip

    def streams(self, events: int, repeats: int) -> str:
        """`tail` of `events` events and `send` of a tenth of them."""
        sent = max(1_000, int(events * SENT_SHARE))
        self._env["N"] = str(sent)
        lines = b"".join(event(number, 4)[1] + b"\n" for number in range(sent))
        (self._folder / "lines").write_bytes(lines)
        with self._filled(events):
            tails = self._in_turns(TAILS, repeats)
            sends = self._in_turns(SENDS, repeats)
        return (
            f"## `tail` and `send`\n\nFrom the start of the command to its end, {events:,} events to a file, medians "
            f"of {repeats} run(s). kcat prints values, as `--format %v` does; `tail` also time, place and key.\n\n"
            f"{_rates(tails, events)}\n{sent:,} events sent, each acknowledged and with `acks=all`. kpipe holds each "
            f"to its contract before it sends the first; `-n` makes each from the example, with ids of its own.\n\n"
            f"{_rates(sends, sent)}"
        )

    def starts(self, repeats: int) -> str:
        with self._filled(100):
            found = self._in_turns(STARTS, max(3, repeats))
        rows = [f"| {title} | {_ms(runs, 0)} | {_ms(runs, 1)} |\n" for title, runs in found.items()]
        return (
            "## Start\n\nFrom the start of the command to its end, medians, in milliseconds.\n\n"
            "| | by the clock | processor time |\n|---|---|---|\n" + "".join(rows)
        )

    def _filled(self, events: int) -> _Topics:
        return _Topics(self._cluster, [self._topic, f"{self._run}.payments", f"{self._run}.orders.dlq"], events)

    def _in_turns(self, commands: Sequence[Command], repeats: int) -> dict[str, list[Cost]]:
        found: dict[str, list[Cost]] = defaultdict(list)
        for _ in range(repeats):
            for one in commands:
                if "kcat" in one.line and shutil.which("kcat") is None:
                    continue
                cost = run(one.line, self._folder, self._env)
                found[one.title].append(cost)
                self._say(f"{one.title}: {cost.wall:.2f} s, {cost.cpu:.2f} s of processor time")
        return found


class _Topics:
    """Topics for a while, the first with events in it."""

    def __init__(self, cluster: Cluster, names: Sequence[str], events: int) -> None:
        self._cluster, self._names, self._events = cluster, names, events

    def __enter__(self) -> None:
        self._cluster.create(self._names)
        self._cluster.fill(self._names[0], self._events, salt=5)

    def __exit__(self, *_: object) -> None:
        self._cluster.delete(self._names)


def _rates(found: Mapping[str, Sequence[Cost]], events: int) -> str:
    """A table: events a second by the clock, and the ratio to what each is compared with, run by run."""
    beside = {one.title: one.beside for one in (*TAILS, *SENDS)}
    text = "| | events/s | beside kcat | µs of processor an event |\n|---|---|---|---|\n"
    for title, runs in found.items():
        other = found.get(beside[title], ())
        ratio = median(b.wall / a.wall for a, b in zip(runs, other, strict=True)) if other else None
        shown = "-" if ratio is None else f"{ratio:.2f}"
        cpu = 1e6 * median(run.cpu for run in runs) / events
        text += f"| {title} | {events / median(run.wall for run in runs):,.0f} | {shown} | {cpu:.1f} |\n"
    return text


def _ms(runs: Sequence[Cost], field: int) -> str:
    return f"{1e3 * median(run[field] for run in runs):,.0f}"
