"""`guarantee: exactly-once` on a real Kafka: of what is committed, nothing is twice, lost or out of order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.delivery.letters import read_letter
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
topics:
  in: {key: k, dlq: in.dlq}
  out: {key: k, dlq: out.dlq}
handlers:
  h:
    python: code:handle
    consumes: [in]
    produces: [out]
    guarantee: exactly-once
    dedup: off
    concurrency: CONCURRENCY
    retry: {attempts: 3, backoff: 20ms, max-backoff: 200ms}
"""
CODE = """
import time
from orchestrator import Emit, Reject

def handle(event):
    v = event.value
    if v.get("do") == "reject":
        raise Reject("no")
    if v.get("do") == "silent":
        return None
    if v.get("do") == "huge":
        return Emit("out", {"k": v["k"], "n": v["n"], "x": "x" * 1_500_000})
    time.sleep(v.get("sleep", 0))
    return Emit("out", {"k": v["k"], "n": v["n"], "attempt": event.attempt})
"""
#: A worker that was killed is thrown out of its group after the least time that Kafka allows.
FAST = "consumer: {session.timeout.ms: 6000, heartbeat.interval.ms: 1000}"
Make = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Iterator[Make]:
    def made(concurrency: int = 1) -> Project:
        yaml = YAML.replace("CONCURRENCY", str(concurrency))
        return Project(tmp_path, kafka, yaml, {"code.py": CODE}, FAST)

    yield made


def numbers(project: Project) -> list[int]:
    return [v["n"] for v in project.values("out")]


def by_key(project: Project) -> dict[str, list[int]]:
    """Every output of each key, in order and with repeats."""
    found: dict[str, list[int]] = {}
    for value in project.values("out"):
        found.setdefault(value["k"], []).append(value["n"])
    return found


def tallies(project: Project) -> list[int]:
    """done, dead-lettered, skipped, as committed."""
    said = [json.loads(m)["n"] for _, m in project.committed("h", "in").values() if m]
    return [sum(column) for column in zip(*said, strict=True)]


@pytest.mark.parametrize("concurrency", [1, 10])
def test_outputs_letters_and_offsets_are_there_once(make: Make, concurrency: int) -> None:
    project = make(concurrency)
    events: list[dict[str, Any]] = [{"k": f"k{n % 7}", "n": n} for n in range(500)]
    events[100]["do"] = events[200]["do"] = "reject"
    events[300]["do"] = "silent"
    project.send("in", events)
    with project.worker("h") as worker:
        counts = worker.wait_settled(500)
        assert worker.terminate() == 0
    assert counts == {"in": 500, "done": 498, "dead_lettered": 2, "skipped": 0, "in_flight": 0}
    for key, found in by_key(project).items():
        assert found == [n for n in range(500) if f"k{n % 7}" == key and n not in (100, 200, 300)]
    assert sorted(json.loads(r.value or b"")["n"] for r in project.read("in.dlq")) == [100, 200]
    assert tallies(project) == [498, 2, 0]


@pytest.mark.parametrize("concurrency", [1, 10])
def test_killed_under_load_nothing_is_twice_lost_or_out_of_order(make: Make, concurrency: int) -> None:
    project = make(concurrency)
    project.send("in", [{"k": f"k{n % 20}", "n": n, "sleep": 0.001} for n in range(3000)])
    for _ in range(2):
        with project.worker("h") as worker:
            before = len(project.read("out"))
            until("some outputs", lambda: len(project.read("out")) > before + 200)  # noqa: B023
            worker.kill()
    with project.worker("h") as worker:
        counts = worker.wait_settled(3000, 60)
        assert worker.terminate() == 0
    assert counts["done"] == 3000
    for key, found in by_key(project).items():
        assert found == [n for n in range(3000) if f"k{n % 20}" == key]


def test_an_output_that_kafka_refuses_is_isolated_and_the_others_are_there_once(make: Make) -> None:
    project = make()
    events: list[dict[str, Any]] = [{"k": f"k{n % 5}", "n": n} for n in range(100)]
    events[42]["do"] = "huge"
    project.send("in", events)
    with project.worker("h") as worker:
        counts = worker.wait_settled(100)
        worker.terminate()
    assert (counts["done"], counts["dead_lettered"]) == (99, 1)
    [record] = project.read("in.dlq")
    letter = read_letter(record.headers)
    assert letter is not None
    assert letter.reason == "output" and "MSG_SIZE" in letter.error_type
    assert json.loads(record.value or b"")["n"] == 42
    for key, found in by_key(project).items():
        assert found == [n for n in range(100) if f"k{n % 5}" == key and n != 42], "in order, none twice"
