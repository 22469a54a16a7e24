"""`kpipe dlq redrive` with real workers on a real Kafka."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.kafka.properties import client_properties
from orchestrator.kafka.reader import Reader
from orchestrator.records import Outgoing, Record, TopicPartition
from tests.docs.test_json_docs import check
from tests.support.letters import letters
from tests.support.shell import KPIPE, Done, environment, kpipe
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: shop
defaults: {topic: {partitions: 2}}
topics:
  in: {schema: in.json, key: k, dlq: in.dlq}
  out: {key: k, dlq: out.dlq}
handlers:
  h: {python: 'code:handle', consumes: [in], produces: [out], dlq: h.dlq, retry: {attempts: 1}, fuse: off}
  g: {python: 'code:watch', consumes: [in], from: latest}
"""
SCHEMA = '{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}'
CODE = """
import pathlib
from orchestrator import Emit, Reject

def handle(event):
    if not pathlib.Path("fixed").exists():
        raise Reject("not now")
    saw = {"k": event.key, "n": event.value["n"], "topic": event.topic, "partition": event.partition,
           "offset": event.offset, "timestamp": event.timestamp, "id": event.id, "attempt": event.attempt,
           "headers": [name for name, _ in event.headers]}
    return Emit("out", saw)

def watch(event):
    with open("watched", "a") as file:
        file.write(f"{event.topic} {event.value['n']}\\n")
"""
Make = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Make:
    return lambda yaml=YAML: Project(tmp_path, kafka, yaml, {"code.py": CODE, "in.json": SCHEMA})


@pytest.fixture
def project(make: Make) -> Iterator[Project]:
    yield make()


def run(project: Project, *words: str) -> Done:
    return kpipe(project.folder, "dlq", "redrive", *words)


def planned(project: Project, *words: str) -> dict[str, Any]:
    done = run(project, *words, "--json")
    assert done.code == 0, done.err
    shape: dict[str, Any] = json.loads(done.out)
    check("redrive", shape)
    return shape


def caught_up(project: Project, handler: str) -> dict[str, Any] | None:
    """What `kpipe lag` says of a handler, once nothing waits for it."""
    [shape] = json.loads(kpipe(project.folder, "lag", handler, "--json").out)["handlers"]
    return None if shape["lag"] else shape


def redriven(project: Project, handler: str = "h") -> list[Record]:
    """What was sent back to a handler, committed transactions only."""
    topic = f"{project.namespace}.shop.{handler}.redrive"
    with Reader(client_properties(project.pipeline.kafka, "consumer", project.bootstrap)) as reader:
        tps = [TopicPartition(topic, n) for n in range(reader.topics().get(topic, 0))]
        return [r for batch in reader.read(reader.beginnings(tps), reader.ends(tps)) for r in batch]


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
def test_letters_go_back_to_a_running_handler_as_the_events_that_they_were(make: Make, guarantee: str) -> None:
    project = make(YAML.replace("dlq: h.dlq,", f"dlq: h.dlq, guarantee: {guarantee},"))
    with project.worker("h") as h, project.worker("g") as g:
        h.wait_ready(), g.wait_ready()
        project.send("in", ({"k": f"k{n % 3}", "n": n, "eventId": f"e{n}"} for n in range(9)), headers=(("own", b"1"),))
        h.wait_settled(9), g.wait_settled(9)
        (project.folder / "fixed").touch()
        done = run(project, "-y")
        assert done.code == 0 and "Sent back 9 letters: 9 to h." in done.err
        assert h.wait_settled(18, 15)["done"] == 9, "found while it runs, and its ids do not make them copies"
        assert not [line for line in h.log.splitlines() if "UNKNOWN_TOPIC" in line]
        origins = {(r.partition, r.offset, r.timestamp): json.loads(r.value or b"")["n"] for r in project.read("in")}
        seen = project.values("out")
        assert {(v["partition"], v["offset"], v["timestamp"]): v["n"] for v in seen} == origins
        for v in seen:
            assert (v["topic"], v["id"], v["attempt"]) == ("in", f"e{v['n']}", 1)
            assert v["headers"] == ["own", "kpipe-dlq-redrive-count"]
        for k in range(3):
            assert [v["n"] for v in seen if v["k"] == f"k{k}"] == list(range(k, 9, 3)), "order by key"
        assert g.accounting["in"] == 9, "nobody else sees them"
        lag = until("all of it is committed", lambda: caught_up(project, "h"))
        assert {part["topic"] for part in lag["partitions"]} == {"in", f"{project.namespace}.shop.h.redrive"}
        assert len(redriven(project)) == 9


def test_what_breaks_its_contract_goes_back_to_every_handler_and_then_to_each_its_own(project: Project) -> None:
    project.send("in", [{"k": "a", "n": "x"}])
    with project.worker("h") as h:
        h.wait_settled(1)
        assert planned(project, "-y")["deliveries"] == [
            {"handler": "g", "topic": "in", "letters": 1},
            {"handler": "h", "topic": "in", "letters": 1},
        ]
        # `from: latest`, and still it gets what was sent back before it first ran.
        with project.worker("g") as g:
            h.wait_settled(2), g.wait_settled(1)
        found = [letter for r in project.read("in.dlq") if (letter := read_letter(r.headers))]
        assert Counter((letter.handler, letter.redrive_count) for letter in found) == {
            ("h", 0): 1, ("h", 1): 1, ("g", 1): 1,
        }  # fmt: skip
        assert {letter.topic for letter in found} == {project.name("in")}
        assert len({letter.offset for letter in found}) == 1
        assert len({len(r.headers) for r in project.read("in.dlq")}) == 1, "no letter grows"
        stuck = planned(project, "-y", "--max-redrives", "1")
        assert (stuck["letters"], stuck["redriven"], stuck["guarded"], stuck["before"]) == (0, None, 2, 1)
        again = planned(project, "--dry-run")
        assert [(d["handler"], d["letters"]) for d in again["deliveries"]] == [("g", 1), ("h", 1)]


def test_a_record_that_nobody_redrove_ends_in_the_dlq(project: Project) -> None:
    project.produce(letters(project, 1, dlq="h.dlq"))
    run(project, "-y")
    project.produce([Outgoing(f"{project.namespace}.shop.h.redrive", b"k", None, (("kpipe-redrive-topic", b"in"),))])
    (project.folder / "fixed").touch()
    with project.worker("h") as h:
        assert h.wait_settled(2)["dead_lettered"] == 1
    [letter] = [x for r in project.read("h.dlq") if (x := read_letter(r.headers)) and x.reason == "decode"]
    assert "consumes no topic" in letter.error_message
    assert planned(project, "--dry-run")["left_alone"][0]["letters"] == 1


def test_which_letters(project: Project) -> None:
    project.produce([*letters(project, 20, dlq="h.dlq"), *letters(project, 3, dlq="in.dlq", reason="decode")])
    plan = planned(project, "h.dlq", "--dry-run", "--where", "value.n >= `15`")
    assert (plan["letters"], plan["redriven"]) == (5, None)
    assert planned(project, "--dry-run", "--handler", "g")["deliveries"] == [
        {"handler": "g", "topic": "in", "letters": 3}
    ]
    assert redriven(project) == []
    refused = run(project, "h.dlq")
    assert refused.code == 2 and "no terminal" in refused.err and "20" in refused.out
    assert planned(project, "h.dlq", "--max", "4", "-y")["redriven"] == 4
    assert len(redriven(project)) == 4
    assert run(project, "--handler", "x").code == 2


LETTERS = 3_000


def test_killed_at_any_moment_and_started_again_each_letter_goes_back_once(project: Project) -> None:
    project.produce(letters(project, LETTERS, dlq="h.dlq"))
    kills = 0
    while kills < 2:
        before = len(redriven(project))
        slow = [KPIPE, "dlq", "redrive", "-y", "--rate", "1500"]
        child = subprocess.Popen(slow, cwd=project.folder, env=environment(), stderr=subprocess.DEVNULL)
        until("it is on its way", lambda: len(redriven(project)) > before or child.poll() is not None)  # noqa: B023
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        kills += 1
    assert 0 < len(redriven(project)) < LETTERS
    rest = planned(project, "-y")
    assert rest["redriven"] + rest["before"] == LETTERS and rest["before"] > 0
    assert Counter(r.value for r in redriven(project)) == {r.value: 1 for r in project.read("h.dlq")}
    by_key: dict[bytes | None, list[int]] = {}
    for r in redriven(project):
        by_key.setdefault(r.key, []).append(json.loads(r.value or b"")["n"])
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_of_two_at_once_the_later_goes_on_and_the_earlier_says_so(project: Project) -> None:
    project.produce(letters(project, 400, dlq="h.dlq"))
    slow = [KPIPE, "dlq", "redrive", "-y", "--rate", "100"]
    with subprocess.Popen(slow, cwd=project.folder, env=environment(), stderr=subprocess.PIPE, text=True) as first:
        until("the first one sends", lambda: redriven(project))
        assert run(project, "-y").code == 0
        assert first.stderr is not None
        said = first.stderr.read()
    assert first.returncode == 4 and "another one of the same pipeline" in said and "goes on where" in said
    assert len(redriven(project)) == 400


def test_the_topic_is_the_pipelines_and_no_sync_takes_it_away(project: Project) -> None:
    project.produce(letters(project, 3, dlq="h.dlq"))
    assert kpipe(project.folder, "topics", "sync", "-y").code == 0
    run(project, "-y")
    name = f"{project.namespace}.shop.h.redrive"
    rows = json.loads(kpipe(project.folder, "topics", "ls", "--json").out)["topics"]
    assert {row["name"]: (row["partitions"], row["state"]) for row in rows}[name] == (2, "in sync")
    assert kpipe(project.folder, "topics", "sync", "--check", "--prune").code == 0
    file = project.folder / "pipeline.yaml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("  h:")))
    plan = kpipe(project.folder, "topics", "sync", "--prune", "-y", "--json")
    assert plan.code == 2 and f"data-loss={name}" in plan.err, "it goes only by name"
    assert {c["topic"] for c in json.loads(plan.out)["changes"] if c["action"] == "delete"} >= {name}
