"""`kpipe up` with a Kafka of its own: workers and services, orderly ends and deaths."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.brokers import recorded
from orchestrator.state import MARKER
from tests.support.supervised import wait_until
from tests.support.up import CODE, Up

pytestmark = pytest.mark.kafka

FILE = """\
kpipe: 1
pipeline: shop
topics:
  orders: {key: id, dlq: orders.dlq}
  paid: {key: id, dlq: none}
handlers:
  payments: {python: "pay:handle", consumes: [orders], produces: [paid]}
  tracking: {python: "track:handle", consumes: [paid, orders.dlq], dlq: none}
"""
PAY = """
from orchestrator import Emit, Reject
def handle(event):
    if event.value["amount"] > 100: raise Reject("too much")
    return Emit("paid", event.value)
"""
TRACK = """
def handle(event):
    print("tracked", event.topic, event.value["id"], flush=True)
"""


class Shop:
    """A project whose Kafka is its own. Duck-typed for `Up`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".kpipe"
        for name, text in (("pipeline.yaml", FILE), ("pay.py", PAY), ("track.py", TRACK)):
            (folder / name).write_text(text)
        self.env = {k: v for k, v in os.environ.items() if k not in ("KAFKA_BOOTSTRAP", "KAFKA_HEAP_OPTS")}

    def kpipe(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CODE, *words], cwd=self.folder, env=self.env, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip

    @property
    def processes(self) -> list[psutil.Process]:
        """Everything that works in this folder, the JVM included."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def handlers(self) -> dict[str, dict[str, Any]]:
        return {h["name"]: h for h in json.loads(self.kpipe("ps", "--json").stdout)["handlers"]}

    def send(self, **value: Any) -> None:
        done = self.kpipe("send", "orders", json.dumps(value))
        assert done.returncode == 0, done.stderr


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    made = Shop(tmp_path)
    yield made
    for process in made.processes:
        process.kill()


def up(shop: Shop) -> Up:
    return Up(shop, (), {"env": shop.env})  # type: ignore[arg-type]


def test_a_whole_life(shop: Shop) -> None:
    first = up(shop)
    first.says("next: ", 90)
    shop.send(id="one", amount=5)
    shop.send(id="two", amount=500)
    first.says("tracked paid one")
    first.says("tracked orders.dlq two")
    settled = {"in": 2, "done": 1, "dead_lettered": 1, "skipped": 0, "in_flight": 0}
    wait_until("accounted for", lambda: shop.handlers()["payments"]["accounting"] == settled)
    assert shop.kpipe("broker", "stop").returncode == 2, "it belongs to up"
    assert shop.kpipe("down").returncode == 0
    assert first.ended(1) == 0
    assert "payments  in 2 = done 1 + dead-lettered 1 + skipped 0 + in flight 0" in first.err
    order = [first.err.index(f"{name}: stopped") for name in ("payments", "tracking", "kafka")]
    assert order == sorted(order)
    assert recorded(shop.state) is None and not shop.processes

    began = time.monotonic()
    second = up(shop)
    second.says("next: ")
    assert time.monotonic() - began < 10, "from the second run on"
    wait_until("its counts go on", lambda: shop.handlers()["payments"]["accounting"] == settled)
    assert "tracked" not in second.out, "what was committed is not handled again"

    second.process.kill()
    second.process.wait()
    wait_until("nothing left, Kafka included", lambda: not shop.processes, 2.0)
    third = up(shop)  # at once: what the killed one left behind must not be in the way
    third.says("next: ")
    third.signal(signal.SIGINT)
    assert third.ended() == 130
    assert not shop.processes


def test_a_kafka_that_runs_already_is_used_and_left_running(shop: Shop) -> None:
    assert shop.kpipe("broker", "start").returncode == 0
    before = recorded(shop.state)
    assert before is not None
    running = up(shop)
    running.says(f"Kafka answers at {before.address}")
    assert shop.kpipe("down").returncode == 0 and running.ended(1) == 0
    assert recorded(shop.state) == before
    assert shop.kpipe("down").returncode == 0 and recorded(shop.state) == before
    assert shop.kpipe("broker", "stop").returncode == 0
    assert not shop.processes


def test_a_kafka_that_dies_is_started_again_and_the_flow_goes_on(shop: Shop) -> None:
    running = up(shop)
    running.says("next: ", 90)
    before = recorded(shop.state)
    assert before is not None and before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    running.says("kafka: crashed (killed by SIGKILL)")
    wait_until("its new process is on record", lambda: (r := recorded(shop.state)) and r.pid != before.pid)
    wait_until("it answers", lambda: shop.kpipe("broker", "status").returncode == 0, 60)
    shop.send(id="after", amount=1)
    running.says("tracked paid after", 60)
    assert shop.kpipe("down").returncode == 0
    assert running.ended(1) == 0


def test_a_kafka_that_cannot_start(shop: Shop) -> None:
    shop.env["KAFKA_HEAP_OPTS"] = "-Xmx2m"
    done = shop.kpipe("up")
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("error:") == 1 and "heap" in done.stderr and "Traceback" not in done.stderr
    assert recorded(shop.state) is None and not shop.processes


def test_a_handler_module_that_is_missing(shop: Shop) -> None:
    (shop.folder / "track.py").unlink()
    done = shop.kpipe("up")
    assert done.returncode == 5
    assert (
        done.stderr.count("error:") == 1
        and "`tracking` could not start: there is no module track" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert recorded(shop.state) is None and not shop.processes


def test_down_while_kafka_is_still_prepared(shop: Shop) -> None:
    import fcntl

    shop.state.mkdir()
    with (shop.state / "broker.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = up(shop)
        waiting.says("Another kpipe is starting this broker")
        assert shop.kpipe("down").returncode == 0
        assert waiting.ended(1) == 143
    assert not shop.processes


def test_detached_idle_and_wiped(shop: Shop) -> None:
    """What a script does: up, work, all settled, nothing left."""
    done = shop.kpipe("up", "--wait", "--wait-timeout", "90s")
    assert done.returncode == 0, done.stderr
    assert shop.kpipe("broker", "status").returncode == 0
    shop.send(id="one", amount=5)
    shop.send(id="two", amount=500)
    assert shop.kpipe("wait", "idle").returncode == 0
    assert shop.handlers()["payments"]["accounting"]["dead_lettered"] == 1
    logs = shop.kpipe("logs", "tracking", "--grep", "^tracked").stdout
    assert sorted(logs.splitlines()) == ["tracking | tracked orders.dlq two", "tracking | tracked paid one"]
    assert shop.kpipe("down", "-v").returncode == 0
    assert not shop.processes
    assert [path.name for path in shop.state.iterdir() if not path.name.endswith(".lock")] == [MARKER]
    assert shop.kpipe("up", "--wait", "--wait-timeout", "90s").returncode == 0
    settled = {"in": 0, "done": 0, "dead_lettered": 0, "skipped": 0, "in_flight": 0}
    assert shop.handlers()["payments"]["accounting"] == settled, "it began from nothing"
    assert shop.kpipe("down").returncode == 0


def test_data_of_a_kafka_that_runs_alone_is_not_deleted(shop: Shop) -> None:
    assert shop.kpipe("broker", "start").returncode == 0
    refused = shop.kpipe("down", "-v")
    assert refused.returncode == 2 and "`kpipe broker stop` first" in refused.stderr
    assert shop.kpipe("broker", "status").returncode == 0 and (shop.state / "broker" / "data").is_dir()
    assert shop.kpipe("broker", "stop").returncode == 0
