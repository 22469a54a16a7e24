"""`concurrency` and `ordering` on a real Kafka: many events at once, each key in order, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    retry: {attempts: 3, backoff: 20ms, max-backoff: 100ms}
    concurrency: 20
"""
SYNC = """
import threading, time
from orchestrator import Emit, Reject
lock, now, most = threading.Lock(), 0, 0

def handle(event):
    global now, most
    with lock:
        now += 1
        most = max(most, now)
    time.sleep(0.01)
    with lock:
        now -= 1
    if event.value.get("bad") == "always" or (event.value.get("bad") and event.attempt < 3):
        raise ValueError("no")
    return Emit("out", {"k": event.value["k"], "n": event.value["n"], "most": most})
"""
ASYNC = """
import asyncio
from orchestrator import Emit
now = most = 0

async def handle(event):
    global now, most
    now += 1
    most = max(most, now)
    await asyncio.sleep(0.01)
    now -= 1
    if event.value.get("bad") == "always" or (event.value.get("bad") and event.attempt < 3):
        raise ValueError("no")
    return Emit("out", {"k": event.value["k"], "n": event.value["n"], "most": most})
"""


@pytest.fixture(params=["sync", "async"])
def project(request: pytest.FixtureRequest, tmp_path: Path, kafka: str) -> Iterator[Project]:
    yield Project(tmp_path, kafka, YAML, {"code.py": SYNC if request.param == "sync" else ASYNC})


def by_key(project: Project) -> dict[str, list[int]]:
    """Outputs of each key in order, repeats removed."""
    found: dict[str, dict[int, None]] = {}
    for value in project.values("out"):
        found.setdefault(value["k"], {})[value["n"]] = None
    return {key: list(numbers) for key, numbers in found.items()}


def test_many_at_once_and_each_key_in_order(project: Project) -> None:
    events = [{"k": f"k{n % 40}", "n": n, **({"bad": "twice"} if n % 97 == 5 else {})} for n in range(3000)]
    events[100]["bad"] = events[200]["bad"] = "always"
    project.send("in", events)
    with project.worker("h") as worker:
        counts = worker.wait_settled(3000, 90)
        assert worker.terminate() == 0
    assert counts == {"in": 3000, "done": 2998, "dead_lettered": 2, "skipped": 0, "in_flight": 0}
    assert max(v["most"] for v in project.values("out")) > 10, "it really ran many at once"
    assert {json.loads(r.value or b"")["n"] for r in project.read("in.dlq")} == {100, 200}
    for key, numbers in by_key(project).items():
        assert numbers == [n for n in range(3000) if f"k{n % 40}" == key and n not in (100, 200)]


def test_killed_in_the_middle_nothing_is_lost_or_out_of_order(project: Project) -> None:
    project.send("in", [{"k": f"k{n % 40}", "n": n} for n in range(2000)])
    for _ in range(3):
        with project.worker("h") as worker:
            before = len(project.read("out"))
            until("some outputs", lambda: len(project.read("out")) > before + 200)  # noqa: B023
            worker.kill()
    with project.worker("h") as worker:
        counts = worker.wait_settled(2000, 90)
        assert worker.terminate() == 0
    assert counts["done"] == 2000
    for key, numbers in by_key(project).items():
        assert numbers == [n for n in range(2000) if f"k{n % 40}" == key]


def test_a_stop_waits_for_all_that_run(project: Project) -> None:
    project.send("in", [{"k": f"k{n}", "n": n} for n in range(400)])
    with project.worker("h") as worker:
        until("they run", lambda: len(project.read("out")) > 0)
        assert worker.terminate() == 0
    ended = sum(sum(json.loads(m)["n"]) for _, m in project.committed("h", "in").values() if m)
    assert ended == len(project.read("out")), "what was written is committed, and nothing else"


@pytest.mark.parametrize("ordering", ["partition", "none"])
def test_other_orderings(tmp_path: Path, kafka: str, ordering: str) -> None:
    yaml = YAML.replace("concurrency: 20", f"concurrency: 20\n    ordering: {ordering}")
    project = Project(tmp_path, kafka, yaml, {"code.py": ASYNC})
    project.send("in", [{"k": "one", "n": n} for n in range(200)])
    with project.worker("h") as worker:
        worker.wait_settled(200)
        worker.terminate()
    values = project.values("out")
    assert sorted(v["n"] for v in values) == list(range(200))
    if ordering == "partition":
        assert [v["n"] for v in values] == list(range(200))
        assert max(v["most"] for v in values) == 1
    else:
        assert max(v["most"] for v in values) > 5
