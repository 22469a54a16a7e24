"""`http:` handlers on a real Kafka: every event ends as the endpoint says, and an outage blames none."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest

from tests.support.breaking import Act, breaking
from tests.support.endpoint import Reply, Request, endpoint
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
topics:
  in: {{key: k, dlq: in.dlq}}
  out: {{key: k, dlq: out.dlq}}
handlers:
  h:
    http: {url}
    consumes: [in]
    produces: [out]
    timeout: 500ms
    retry: {{attempts: 3, backoff: 20ms, max-backoff: 100ms}}
    breaker: {{failures: 3, wait: 100ms, max-wait: 200ms}}
    {options}
"""


def numbers(project: Project) -> dict[str, list[int]]:
    """The outputs of each key in order, repeats removed."""
    found: dict[str, dict[int, None]] = {}
    for value in project.values("out"):
        found.setdefault(value["k"], {})[value["n"]] = None
    return {key: list(ns) for key, ns in found.items()}


def test_every_event_ends_as_the_endpoint_says(tmp_path: Path, kafka: str) -> None:
    """With chances of everything that can go wrong; each key in order, and no event lost."""
    chance, lock = random.Random(7), threading.Lock()

    def answer(request: Request) -> Reply:
        value = request.json
        if value.get("bad"):
            return Reply(value["bad"], {"detail": "bad"})
        with lock:
            dice = chance.random()
        if dice < 0.02:
            return Reply(0)
        if dice < 0.04:
            return Reply(503, {}, {"retry-after": "0"})
        if dice < 0.045:
            time.sleep(0.6)
        return Reply(200, {"emit": [{"topic": "out", "value": value}]})

    with endpoint(answer) as server:
        project = Project(tmp_path, kafka, YAML.format(url=server.url, options="concurrency: 16"))
        events = [{"k": f"k{n % 30}", "n": n} for n in range(600)]
        bad = {50: 422, 51: 500, 52: 200}
        for n, status in bad.items():
            events[n]["bad"] = status  # 200 with an answer that is none
        project.send("in", events)
        with project.worker("h") as worker:
            counts = worker.wait_settled(600, 60)
    assert counts == {"in": 600, "done": 597, "dead_lettered": 3, "skipped": 0, "in_flight": 0}, worker.log
    wanted = {f"k{k}": [n for n in range(k, 600, 30) if n not in bad] for k in range(30)}
    assert numbers(project) == wanted
    letters = [dict(r.headers) for r in project.read("in.dlq")]
    assert {h["kpipe-dlq-reason"] for h in letters} == {b"rejected", b"exhausted", b"output"}
    assert any(b"answered 422" in h["kpipe-dlq-error-message"] for h in letters)


def test_an_outage_pauses_the_flow_until_the_endpoint_is_well(tmp_path: Path, kafka: str) -> None:
    well = threading.Event()
    broken = Reply(503)

    def answer(request: Request) -> Reply:
        if request.method == "GET":
            return Reply(200 if well.is_set() else 500)
        return Reply(200, {"emit": [{"topic": "out", "value": request.json}]}) if well.is_set() else broken

    with endpoint(answer) as server:
        project = Project(tmp_path, kafka, YAML.format(url=server.url, options="health: /healthz"))
        project.send("in", [{"k": f"k{n % 5}", "n": n} for n in range(50)])
        with project.worker("h") as worker:
            until("the probe asks again and again", lambda: sum(r.method == "GET" for r in server.asked) >= 3)
            posted = sum(r.method == "POST" for r in server.asked)
            assert posted == 3  # what opened the breaker; no event was risked since
            well.set()
            counts = worker.wait_settled(50)
    assert counts["done"] == 50 and project.read("in.dlq") == []
    assert numbers(project) == {f"k{k}": list(range(k, 50, 5)) for k in range(5)}
    assert "the breaker is open" in worker.log and "the flow goes on" in worker.log


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_endpoint_that_closes_connections_for_being_idle_costs_no_attempt(
    tmp_path: Path, kafka: str, concurrency: int
) -> None:
    """2 ms after each answer; each event has one attempt only."""
    with breaking(lambda *_: Act(wait=0.002)) as server:
        options = f"concurrency: {concurrency}"
        yaml = YAML.replace("attempts: 3", "attempts: 1").format(url=server.url, options=options)
        project = Project(tmp_path, kafka, yaml)
        with project.worker("h") as worker:
            worker.wait_ready()
            for n in range(200):  # with pauses, so that requests meet the end of their connection
                project.send("in", [{"k": f"k{n % 40}", "n": n}])
            counts = worker.wait_settled(200, 60)
        assert counts == {"in": 200, "done": 200, "dead_lettered": 0, "skipped": 0, "in_flight": 0}, worker.log
        assert {json.loads(body)["n"] for body in server.bodies} == set(range(200))
