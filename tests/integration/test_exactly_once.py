"""`guarantee: exactly-once` on a real Kafka: of what is committed, nothing is twice, lost or out of order."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer as RdProducer

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.kafka.properties import client_properties
from orchestrator.kafka.reader import Reader
from orchestrator.records import TopicPartition
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
  sink:
    python: code:sink
    consumes: [out]
    guarantee: exactly-once
    dedup: {by: n}
"""
CODE = """
import os, time
from orchestrator import Emit, Reject

def handle(event):
    v = event.value
    if v.get("do") == "reject":
        raise Reject("no")
    if v.get("do") == "silent":
        return None
    if v.get("do") == "huge":
        return Emit("out", {"k": v["k"], "n": v["n"], "x": os.urandom(1_500_000).hex()})
    time.sleep(v.get("sleep", 0))
    return Emit("out", {"k": v["k"], "n": v["n"], "attempt": event.attempt})

def sink(event):
    return None
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


def reaches_the_end(project: Project, handler: str, topic: str) -> bool:
    """Whether the group has committed the ends of the topic's partitions, which are transaction markers."""
    name = project.name(topic)
    with Reader(client_properties(project.pipeline.kafka, "consumer", project.bootstrap)) as reader:
        ends = reader.ends([TopicPartition(name, p) for p in range(reader.partitions(name))])
    committed = project.committed(handler, topic)
    return all(committed[tp.partition][0] == end for tp, end in ends.items() if end)


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
    project.send("in", [{"k": f"k{n % 20}", "n": n, "sleep": 0.002 * concurrency} for n in range(3000)])
    for _ in range(2):
        with project.worker("h") as worker:
            before = len(project.read("out"))
            # The killed worker's session has to end first, and what it had in a transaction.
            until("some outputs", lambda: len(project.read("out")) > before + 200, 120)  # noqa: B023
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


def test_what_follows_passes_over_the_markers_and_commits_without_sending(make: Make) -> None:
    project = make()
    with project.worker("h") as worker, project.worker("sink") as sink:
        for n in range(3):
            project.send("in", [{"k": f"k{n}", "n": n}])
            worker.wait_settled(n + 1)
        assert sink.wait_settled(3)["done"] == 3
        until("the frontier is at the end", lambda: reaches_the_end(project, "sink", "out"))
        assert worker.terminate() == 0
        assert sink.terminate() == 0
    project.send("out", [{"k": "k", "n": 2}, {"k": "k2", "n": 2}, {"k": "k0", "n": 7}])
    with project.worker("sink") as sink:
        counts = sink.wait_settled(6)
        assert sink.terminate() == 0
    assert counts["skipped"] >= 1, "the id is read back from between the markers"


def test_a_zombie_commits_nothing(make: Make) -> None:
    """Stopped in the middle of a batch; its partitions go to another machine; then it goes on where it stood."""
    project = make()
    project.send("in", [{"k": f"k{n % 20}", "n": n, "sleep": 0.002} for n in range(1500)])
    with project.worker("h", env={"KPIPE_INSTANCE": "a"}) as zombie:
        until("it works", lambda: len(numbers(project)) > 50)
        zombie.process.send_signal(signal.SIGSTOP)
        with project.worker("h", env={"KPIPE_INSTANCE": "b"}) as other:
            other.wait_settled(1500, 60)
            zombie.process.send_signal(signal.SIGCONT)
            until("it is a member again", lambda: "without waiting" in zombie.log and zombie.is_ready)
            project.send("in", [{"k": f"k{n % 20}", "n": n} for n in range(1500, 1600)])
            until("all are done", lambda: len(set(numbers(project))) == 1600)
            assert zombie.terminate() == 0
            assert other.terminate() == 0
    assert sum(tallies(project)) == 1600
    for key, found in by_key(project).items():
        assert found == [n for n in range(1600) if f"k{n % 20}" == key], "none twice, and in order"


def test_a_transaction_that_is_fenced_is_sent_again_and_two_with_one_name_are_told(make: Make) -> None:
    project = make()
    with project.worker("h", env={"KPIPE_INSTANCE": "a"}) as worker:
        project.send("in", [{"k": "k", "n": n} for n in range(10)])
        worker.wait_settled(10)
        group = project.pipeline.handlers["h"].group
        RdProducer({"bootstrap.servers": project.bootstrap, "transactional.id": f"{group}.a.0"}).init_transactions(10)
        project.send("in", [{"k": "k", "n": n} for n in range(10, 20)])
        worker.wait_settled(20)
        assert numbers(project) == list(range(20))
        RdProducer({"bootstrap.servers": project.bootstrap, "transactional.id": f"{group}.a.0"}).init_transactions(10)
        project.send("in", [{"k": "k", "n": n} for n in range(20, 30)])
        assert worker.process.wait(30) == 1
        worker.kill()
        assert "another worker uses the same transactional id" in worker.log, worker.log
    with project.worker("h", env={"KPIPE_INSTANCE": "a"}) as worker:
        assert worker.wait_settled(30)["done"] == 30
        worker.terminate()
    assert numbers(project) == list(range(30))
