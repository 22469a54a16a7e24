"""The payment handler in each language: the outcomes of the Python one, while it is killed, hangs and talks garbage."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from handlers.payments import authorize
from orchestrator.config import load
from orchestrator.event import Emit, Event
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from orchestrator.provisioning.plan import specs
from tests.support.worker import Project, Worker, until

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

EXAMPLES = Path(__file__).parents[2] / "examples"
SABOTEUR = Path(__file__).parents[1] / "support" / "saboteur.py"
NEEDS = {"node": "node", "bash": "jq", "go": "go"}
OVERLAY = """
namespace: {namespace}
kafka: {{bootstrap: "{bootstrap}", consumer: {{session.timeout.ms: 6000, heartbeat.interval.ms: 1000}}}}
handlers:
  payments:
    exec: {argv}
    timeout: 2s
    retry: {{attempts: 2, backoff: 50ms}}
"""
ORDERS, KEYS = 800, 80
WRONGS = {100: ("crash", "crash"), 300: ("hang", "timeout"), 500: ("garbage", "exhausted")}


class Shop(Project):
    """An example's own pipeline file, with a saboteur before its program."""

    def __init__(self, folder: Path, example: str, bootstrap: str) -> None:
        self.folder, self.bootstrap = folder, bootstrap
        self._producer = None
        there = EXAMPLES / example
        argv = load([there / "pipeline.yaml"], {}).pipeline.handlers["payments"].target  # type: ignore[union-attr]
        if example == "go":
            built = folder / "payments"
            subprocess.run(["go", "build", "-o", built, "."], cwd=there, check=True, timeout=240)
            argv = (str(built),)
        overlay = folder / "overlay.yaml"
        text = json.dumps([sys.executable, str(SABOTEUR), *argv])
        self.namespace = f"x{uuid.uuid4().hex[:10]}"
        overlay.write_text(OVERLAY.format(namespace=self.namespace, bootstrap=bootstrap, argv=text))
        loaded = load([there / "pipeline.yaml", overlay], {})
        assert loaded.pipeline is not None, loaded.findings
        self.pipeline = loaded.pipeline
        admin = ClusterAdmin(client_properties(self.pipeline.kafka, "admin", bootstrap))
        assert not any(admin.create(specs(self.pipeline)).values())


@pytest.fixture(params=NEEDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path, kafka: str) -> Iterator[tuple[str, Shop]]:
    needed = NEEDS[request.param]
    if shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed; install it to test examples/{request.param}")
    yield request.param, Shop(tmp_path, request.param, kafka)


def order(n: int) -> dict[str, Any]:
    return {
        "eventId": f"{n:08x}-0000-4000-8000-{n:012d}",
        "orderId": f"10000000-0000-4000-8000-{n % KEYS:012d}",
        "userId": WRONGS[n][0] if n in WRONGS else "user-ü\u2028",
        "amount": [99.99, 100.00, 100.01, 150.00][n % 4],
        "items": ["laptop"],
        "status": "CREATED",
        "createdAt": "2026-01-15T10:30:00Z",
    }


def programs(worker: Worker) -> list[psutil.Process]:
    """The example's program, without saboteur and shim."""
    try:
        below = psutil.Process(worker.process.pid).children(recursive=True)
        return [p for p in below if not p.name().startswith(("python", "bash", "kpipe"))]
    except psutil.Error:
        return []


def kill_a_program(worker: Worker, chance: random.Random) -> bool:
    found = programs(worker)
    if found:
        chance.choice(found).kill()
    return bool(found)


def test_it_does_what_the_python_handler_does_whatever_happens_to_it(shop: tuple[str, Shop]) -> None:
    language, project = shop
    chance = random.Random(11)
    project.send("orders.created", map(order, range(ORDERS // 2)), key=lambda v: v["orderId"])
    with project.worker("payments") as worker:
        until("it has begun", lambda: len(project.values("payments.authorized")) > 20)
        assert until("a program", lambda: kill_a_program(worker, chance))
        project.send("orders.created", map(order, range(ORDERS // 2, ORDERS)), key=lambda v: v["orderId"])
        before = len(project.values("payments.authorized"))
        until("it goes on", lambda: len(project.values("payments.authorized")) > before)
        program = programs(worker)
        worker.kill()  # SIGKILL: nothing of the program stays
        until("no orphan", lambda: not any(p.is_running() for p in program))
    with project.worker("payments") as worker:
        until("the second begins", lambda: worker.accounting or programs(worker))
        kill_a_program(worker, chance)
        counts = worker.wait_settled(ORDERS, 120)
        assert worker.terminate() == 0
    assert (counts["done"], counts["dead_lettered"]) == (ORDERS - 3, 3), worker.log[-3000:]
    check_outcomes(project, language)
    check_letters(project)


def check_outcomes(project: Project, language: str) -> None:
    """One outcome for each order, the one that the Python handler gives, and each key's in order."""
    wanted, cause = {}, {}
    for record in project.read("orders.created"):
        value = json.loads(record.value or b"")
        emit = authorize(Event(record, value, topic="orders.created"))
        assert isinstance(emit, Emit)
        if value["userId"] not in ("crash", "hang", "garbage"):
            wanted[value["eventId"]] = (emit.topic, emit.value, record)
        cause[emit.value["eventId"]] = value["eventId"]
    seen: dict[str, dict[str, Any]] = {}
    order_of: dict[tuple[str, bytes | None], list[int]] = {}
    for topic in ("payments.authorized", "payments.rejected"):
        for record in project.read(topic):
            payment = json.loads(record.value or b"")
            event_id = cause_of(payment, language, cause)
            same = seen.setdefault(event_id, payment)
            assert same == payment, "a repetition is the same event"
            number = int(event_id[-12:])
            numbers = order_of.setdefault((topic, record.key), [])
            if number not in numbers:
                numbers.append(number)
            assert wanted[event_id][0] == topic
    assert seen.keys() == wanted.keys()
    assert all(numbers == sorted(numbers) for numbers in order_of.values())
    for event_id, payment in seen.items():
        compare(payment, wanted[event_id][1], language)


def cause_of(payment: dict[str, Any], language: str, cause: dict[str, str]) -> str:
    if language == "bash":  # its ids are derived in another way
        return f"{int(payment['eventId'][-12:]):08x}{payment['eventId'][8:]}"
    return cause[payment["eventId"]]


def compare(payment: dict[str, Any], wanted: dict[str, Any], language: str) -> None:
    own = ("eventId", "authorizationCode") if language == "bash" else ()
    expected = {**wanted, "amount": float(wanted["amount"])}
    assert payment.keys() == expected.keys()
    assert {k: v for k, v in payment.items() if k not in own} == {k: v for k, v in expected.items() if k not in own}


def check_letters(project: Project) -> None:
    reasons = {}
    for record in project.read("payments.dlq"):
        headers = dict(record.headers)
        reasons[json.loads(record.value or b"")["userId"]] = (headers["kpipe-dlq-reason"] or b"").decode()
    assert reasons == dict(WRONGS.values())


@pytest.mark.parametrize("example", NEEDS)
def test_its_file_is_valid(example: str) -> None:
    loaded = load([EXAMPLES / example / "pipeline.yaml"], {})
    assert loaded.pipeline is not None and not loaded.findings
