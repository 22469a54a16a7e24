"""Events that kill or hang whatever process runs them, on a real Kafka under a real supervisor."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.supervisor.control.client import NoAnswer, ask
from tests.support.shell import kpipe, running
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
    pipeline: deadly
    topics:
      in: {key: k, partitions: 2, dlq: in.dlq}
      out: {key: k}
    handlers:
      h:
        python: h:handle
        consumes: [in]
        produces: [out]
        timeout: 1s
"""

HANDLER = """
    import ctypes, os, time
    from orchestrator import Emit

    def handle(event):
        how = event.value.get("how")
        if how == "segfault":
            ctypes.string_at(0)
        if how == "exit":
            os._exit(7)
        if how == "hang":
            time.sleep(1000)
        if how == "hold the GIL":
            ctypes.PyDLL(None).sleep(1000)
        if how == "memory":
            len(bytes(10**9).replace(b"\\0", b"x"))
        return Emit("out", {"k": event.value["k"], "n": event.value["n"]})
"""


def events(count: int, deadly: dict[int, str]) -> list[dict[str, Any]]:
    return [
        {"k": f"k{n % 20}", "n": n, "eventId": n, **({"how": deadly[n]} if n in deadly else {})} for n in range(count)
    ]


def check(project: Project, count: int, deadly: dict[int, str], reasons: dict[int, str]) -> None:
    outputs = [json.loads(r.value or b"") for r in project.read("out")]
    assert sorted({o["n"] for o in outputs}) == [n for n in range(count) if n not in deadly]
    for key in {o["k"] for o in outputs}:
        first = list(dict.fromkeys(o["n"] for o in outputs if o["k"] == key))
        assert first == sorted(first), f"{key} is out of order"
    letters = [(json.loads(r.value or b"")["n"], dict(r.headers)) for r in project.read("in.dlq")]
    assert sorted(n for n, _ in letters) == sorted(deadly), "one letter each"
    assert {n: (h["kpipe-dlq-reason"] or b"").decode() for n, h in letters} == reasons


def handler(project: Project) -> dict[str, Any]:
    """As the control socket tells of it; nothing while `up` has not got so far."""
    socket = project.folder / ".kpipe" / "control.sock"
    try:
        found = ask(socket, "GET", "/v1/ps")["handlers"]
    except NoAnswer:
        found = []
    return found[0] if found else {"accounting": None}


def accounted(project: Project, count: int, dead: int) -> bool:
    counts = handler(project)["accounting"]
    wanted = {"in": count, "done": count - dead, "dead_lettered": dead, "skipped": 0, "in_flight": 0}
    return bool(counts == wanted)


def test_a_thousand_good_events_and_three_deadly_ones(tmp_path: Path, kafka: str) -> None:
    deadly = {200: "segfault", 500: "exit", 800: "hang"}
    project = Project(tmp_path, kafka, YAML, {"h.py": HANDLER})
    project.send("in", events(1_003, deadly))
    with running(tmp_path, "up"):
        until("all are accounted for", lambda: accounted(project, 1_003, 3), 110)
        now = handler(project)
    assert now["state"] == "ready" and now["restarts"] == 3, "each of them costs one process, none twice"
    check(project, 1_003, deadly, {200: "crash", 500: "crash", 800: "timeout"})
    (segfault,) = [r for r in project.read("in.dlq") if json.loads(r.value or b"")["n"] == 200]
    assert dict(segfault.headers)["kpipe-dlq-exit"] == b"signal SIGSEGV"


def test_several_at_once_one_holds_the_interpreter_one_the_memory(tmp_path: Path, kafka: str) -> None:
    deadly = {100: "hold the GIL", 300: "memory"}
    project = Project(tmp_path, kafka, YAML + "        concurrency: 8\n        memory: 250MB\n", {"h.py": HANDLER})
    sent = 402
    project.send("in", events(sent, deadly))
    with running(tmp_path, "up"):
        # An event that hangs is guilty only if others end well meanwhile: some have to come.
        deadline = time.monotonic() + 110
        while (handler(project)["accounting"] or {"dead_lettered": 0})["dead_lettered"] < 2:
            assert time.monotonic() < deadline, "not condemned"
            sent += 1
            project.send("in", events(sent, deadly)[-1:])
        until("all are accounted for", lambda: accounted(project, sent, 2), 60)
    check(project, sent, deadly, {100: "timeout", 300: "crash"})


def test_a_kill_from_outside_is_no_strike(tmp_path: Path, kafka: str) -> None:
    slow = HANDLER.replace('how = event.value.get("how")', 'how = event.value.get("how"); time.sleep(0.3)')
    project = Project(tmp_path, kafka, YAML, {"h.py": slow})
    project.send("in", events(12, {}))
    with project.worker("h") as worker:
        until("some are done", lambda: worker.accounting.get("done", 0) >= 2)
        worker.kill()
    with project.worker("h") as worker:
        until("what ran runs apart", lambda: "runs apart" in worker.log, 60)
        until("the child is there", lambda: psutil.Process(worker.process.pid).children(recursive=True), 60)
        worker.wait_settled(12, 60)
        assert worker.terminate() == 0
    check(project, 12, {}, {})
    assert not list((tmp_path / ".kpipe" / "journal").iterdir())


def test_a_handler_that_dies_of_every_event_stops_instead_of_filling_the_dlq(tmp_path: Path, kafka: str) -> None:
    yaml = YAML + "        fuse: {share: 0.3, of: 10}\n"
    project = Project(tmp_path, kafka, yaml, {"h.py": "import os\ndef handle(event): os._exit(3)\n"})
    project.send("in", events(50, {}))
    with running(tmp_path, "up"):
        until("the fuse is blown", lambda: "the fuse is blown" in kpipe(tmp_path, "logs", "h").out, 60)
        until("ps says so", lambda: handler(project).get("breaker") in ("open", "half-open"))
        assert handler(project)["restarts"] == 1
    assert len(project.read("in.dlq")) <= 3
