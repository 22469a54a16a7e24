"""What became of every event, counted from the topics alone. Standard library and a plain client; nothing of kpipe.

An event is where it stands in the input: (partition, offset). Each run of the handler writes an output that names it.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from tests.chaos.logs import Commit, commits, whole

Place = tuple[int, int]


class Run(NamedTuple):
    """One output: when its handler ran (seconds), and in which process."""

    at: float
    pid: int


@dataclass
class Report:
    """The counts. `violations` are what must be zero."""

    events: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    outputs: int = 0
    letters: int = 0
    lost: int = 0
    reordered: int = 0
    wrongly_dead_lettered: int = 0
    copies_handled: int = 0
    #: Runs and letters beyond the first of their event.
    duplicated: int = 0
    #: Of these: how many ran though a commit covered them before, in a process that was never paused.
    covered_before: int = 0
    #: Of these: sent by a process that had been paused while the group went on without it.
    by_the_paused: int = 0
    #: Of these: the same run twice (what a producer repeats).
    by_a_producer: int = 0
    #: Commits that went back.
    commits_backwards: int = 0
    #: Seconds by which the first run of a repeated event lay before its process was killed: the most, and 9 in 10.
    oldest_at_a_kill: float = 0.0
    most_at_a_kill: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def violations(self) -> dict[str, int]:
        names = (
            "lost", "reordered", "wrongly_dead_lettered", "copies_handled", "covered_before", "by_a_producer",
            "commits_backwards",
        )  # fmt: skip
        return {name: n for name in names if (n := getattr(self, name))}

    def note(self, example: str) -> None:
        if len(self.examples) < 20:
            self.examples.append(example)


class Input(NamedTuple):
    kind: str
    key: bytes
    n: int


def check(
    bootstrap: str,
    topics: Mapping[str, str],
    group: str,
    kills: Mapping[int, float],
    pauses: Mapping[int, Sequence[tuple[float, float]]],
) -> Report:
    """`topics` names `in`, `out` and the DLQs (all others); `kills` and `pauses` are times by process id."""
    report = Report()
    events = read_input(bootstrap, topics["in"], report)
    runs = read_output(bootstrap, topics["out"], events, report)
    letters = Counter(place for name, topic in topics.items() if name not in ("in", "out")
                      for place in read_letters(bootstrap, topic, report))  # fmt: skip
    count_ends(events, runs, letters, report)
    committed = commits(bootstrap, group, topics["in"])
    report.commits_backwards = sum(b.offset < a.offset for one in committed.values() for a, b in pairwise(one))
    count_repeats(runs, committed, kills, pauses, report)
    return report


def read_input(bootstrap: str, topic: str, report: Report) -> dict[Place, Input]:
    events: dict[Place, Input] = {}
    known: set[str] = set()
    for message in whole(bootstrap, topic):
        raw = message.value()
        # `broken` has lost its last brace only.
        value = json.loads(raw if raw.endswith(b"}") else raw + b"}")
        kind = "second copy" if value["eventId"] in known else value["kind"]
        if value["kind"] == "copy":
            known.add(value["eventId"])
        events[message.partition(), message.offset()] = Input(kind, message.key(), value["n"])
    report.events = len(events)
    report.kinds = dict(Counter(event.kind for event in events.values()))
    return events


def read_output(bootstrap: str, topic: str, events: Mapping[Place, Input], report: Report) -> dict[Place, list[Run]]:
    """The runs of each event, and per key whether their first outputs stand in the order of the events."""
    runs: dict[Place, list[Run]] = defaultdict(list)
    newest: dict[bytes, int] = {}
    for message in whole(bootstrap, topic):
        value = json.loads(message.value())
        place = (value["partition"], value["offset"])
        report.outputs += 1
        if place not in runs:
            n = events[place].n
            if newest.get(message.key(), -1) >= n:
                report.reordered += 1
                report.note(f"reordered: {message.key()!r} has {n} after {newest[message.key()]} ({place})")
            else:
                newest[message.key()] = n
        runs[place].append(Run(value["at"], value["pid"]))
    return runs


def read_letters(bootstrap: str, topic: str, report: Report) -> list[Place]:
    found = []
    for message in whole(bootstrap, topic):
        headers = dict(message.headers() or ())
        found.append((int(headers["kpipe-dlq-partition"]), int(headers["kpipe-dlq-offset"])))
        report.letters += 1
    return found


def count_ends(
    events: Mapping[Place, Input], runs: Mapping[Place, Sequence[Run]], letters: Counter[Place], report: Report
) -> None:
    for place, event in events.items():
        ran, buried = len(runs.get(place, ())), letters[place]
        if event.kind == "second copy":
            report.copies_handled += ran + buried > 0
            continue
        wanted, other = (buried, ran) if event.kind in ("reject", "broken") else (ran, buried)
        if not wanted:
            report.lost += 1
            report.note(f"lost: {event} at {place}")
        if other:
            report.wrongly_dead_lettered += 1
            report.note(f"{'handled' if event.kind in ('reject', 'broken') else 'dead-lettered'}: {event} at {place}")
        report.duplicated += max(0, wanted - 1)


def count_repeats(
    runs: Mapping[Place, Sequence[Run]],
    committed: Mapping[int, list[Commit]],
    kills: Mapping[int, float],
    pauses: Mapping[int, Sequence[tuple[float, float]]],
    report: Report,
) -> None:
    """Sort the repeated outputs by what they are allowed to come from."""
    ages = []
    for (partition, offset), ran in runs.items():
        if len(ran) < 2:
            continue
        by_time = sorted(ran)
        for before, run in pairwise(by_time):
            if run == before:
                report.by_a_producer += 1
            elif (commit := _covering(committed.get(partition, []), offset, run.at)) is not None:
                if any(begin - 1 < run.at and end > commit.at for begin, end in pauses.get(run.pid, ())):
                    report.by_the_paused += 1
                else:
                    report.covered_before += 1
                    report.note(f"({partition}, {offset}) ran at {run.at:.3f} in {run.pid}, first {before}, {commit}")
        died = kills.get(by_time[0].pid)
        if died is not None and by_time[0].at < died < by_time[1].at:
            ages.append(died - by_time[0].at)
    ages.sort()
    if ages:
        report.most_at_a_kill, report.oldest_at_a_kill = ages[len(ages) * 9 // 10], ages[-1]


def _covering(committed: list[Commit], offset: int, before: float) -> Commit | None:
    """The newest commit before that time, if it covers the offset."""
    at = bisect_left(committed, before, key=lambda c: c.at)
    return committed[at - 1] if at and committed[at - 1].covers(offset) else None


def shown(report: Report) -> dict[str, Any]:
    return {name: value for name, value in vars(report).items() if name != "examples"}
