"""`make chaos`: a run of chaos of any length, and its report. `python -m tests.chaos.run --help` has the arguments."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checker import Report, check, shown
from tests.chaos.conductor import ACTIONS, Conductor, plan
from tests.chaos.scene import Scene
from tests.support.brokers import brokers_in

#: So many seconds without a commit while there is something to do, and the handler counts as stuck.
STILL_SECONDS = 60.0


@dataclass(frozen=True)
class Chaos:
    """What is to happen. `bootstrap` uses a cluster that runs, whose brokers are left alone."""

    seed: int
    seconds: float
    brokers: int = 3
    guarantee: str = "at-least-once"
    rate: float = 2_000.0
    every: float = 4.0
    most_pause: float = 8.0
    bootstrap: str = ""
    options: str = ""
    kafka: str = ""

    @property
    def actions(self) -> list[str]:
        return [a for a in ACTIONS if not (self.bootstrap and a.endswith("broker"))]


@dataclass
class Result:
    """What happened, what became of the events, and what kpipe itself counted."""

    chaos: Chaos
    done: dict[str, int]
    sent: dict[str, Any]
    report: Report
    accounting: dict[str, int]
    drained_after: float
    exit_code: int
    log: str
    troubles: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What must not be; empty when all is well."""
        report, sums = self.report, self.accounting
        found = [f"{name}: {count}" for name, count in report.violations.items()]
        if self.chaos.guarantee == "exactly-once" and report.duplicated:
            found.append(f"duplicated: {report.duplicated}")
        if sums.get("in") != report.events:
            found.append(f"kpipe counted {sums.get('in')} events of {report.events}")
        if sums.get("in") != sum(sums.get(name, 0) for name in ("done", "dead_lettered", "skipped", "in_flight")):
            found.append(f"the accounting does not add up: {sums}")
        ends = {
            "done": sum(report.kinds.get(kind, 0) for kind in ("good", "flaky", "copy")),
            "dead_lettered": sum(report.kinds.get(kind, 0) for kind in ("reject", "broken")),
            "skipped": report.kinds.get("second copy", 0),
        }
        found += [f"{name}: kpipe counted {sums.get(name)} of {n}" for name, n in ends.items() if sums.get(name) != n]
        if self.sent["acknowledged"] != report.events:
            found.append(f"Kafka has {report.events} of {self.sent['acknowledged']} acknowledged events")
        return found + self.troubles

    def text(self) -> str:
        chaos, report = self.chaos, self.report
        lines = [
            f"seed {chaos.seed}: {chaos.seconds:g} s on {chaos.brokers} broker(s), {chaos.guarantee}",
            "disturbed: " + ", ".join(f"{action} {count}" for action, count in sorted(self.done.items())),
            f"sent {self.sent['acknowledged']:,} events in {self.sent['seconds']:g} s",
            f"all settled {self.drained_after:.1f} s after the load ended",
            "counted from the topics:",
            *(f"  {name:<24} {value}" for name, value in shown(report).items()),
            f"counted by kpipe: {json.dumps(self.accounting)}",
            *report.examples,
            "all is well" if not self.problems else "NOT WELL: " + "; ".join(self.problems),
        ]
        return "\n".join(lines)


def run(chaos: Chaos, folder: Path) -> Result:
    """Start what is needed, disturb it, let it come to rest, and count."""
    with ExitStack() as stack:
        brokers = None if chaos.bootstrap else stack.enter_context(brokers_in(folder, chaos.brokers))
        bootstrap = chaos.bootstrap or (brokers.bootstrap if brokers else "")
        project = folder / "project"
        project.mkdir()
        scene = Scene(project, bootstrap, chaos.brokers, chaos.guarantee, chaos.options, chaos.kafka)
        up = stack.enter_context(scene.up("--scale", "work=2"))
        conductor = Conductor(scene, brokers, chaos.most_pause)
        with scene.load(chaos.rate, chaos.seed) as load:
            planned = plan(chaos.seed, chaos.seconds, chaos.actions, chaos.every)
            began = time.monotonic()
            conductor.run(planned)
            time.sleep(max(0.0, began + chaos.seconds - time.monotonic()))
            sent = load.stop()
        conductor.finish()
        drained = scene.wait_drained(STILL_SECONDS)
        # Two status lines later, what `ps` tells is what was committed.
        time.sleep(2.5)
        accounting = scene.work().get("accounting") or {}
        scene.kpipe("down")
        code = up.wait(60)
        report = check(bootstrap, scene.topics, scene.group, conductor.kills, conductor.pauses)
        return Result(
            chaos, dict(conductor.done), sent, report, accounting, drained, code, scene.log, conductor.troubles
        )


def main() -> int:
    parse = argparse.ArgumentParser(description="Kill, pause and scale workers and brokers under load, and count.")
    parse.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1 << 31))
    parse.add_argument("--seconds", type=float, default=600.0)
    parse.add_argument("--brokers", type=int, default=3, choices=(1, 3))
    parse.add_argument("--guarantee", default="at-least-once", choices=("at-least-once", "exactly-once"))
    parse.add_argument("--rate", type=float, default=2_000.0, help="events a second")
    parse.add_argument("--every", type=float, default=4.0, help="seconds between two disturbances, in the mean")
    parse.add_argument("--options", default="", help="more options of the handler, as `, concurrency: 4`")
    parse.add_argument("--kafka", default="", help="more of `kafka:`, as `, consumer: {group.protocol: consumer}`")
    parse.add_argument("--keep", type=Path, help="leave logs in this folder")
    said = parse.parse_args()
    chaos = Chaos(
        said.seed, said.seconds, said.brokers, said.guarantee, said.rate, said.every, options=said.options,
        kafka=said.kafka,
    )  # fmt: skip
    print(f"seed {chaos.seed}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = said.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(chaos, folder)
    print(result.text(), flush=True)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
