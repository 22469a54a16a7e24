"""`exec:` handlers on a real Kafka: whatever the program does, every event has its end, and each key its order."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.programs import each, program
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
topics:
  in: {{key: k, dlq: in.dlq}}
  out: {{key: k, dlq: out.dlq}}
handlers:
  h:
    exec: {argv}
    consumes: [in]
    produces: [out]
    timeout: 1s
    retry: {{attempts: 2, backoff: 20ms, max-backoff: 100ms}}
    {options}
"""
#: Honest but for events that say what is to go wrong with them.
FICKLE = """
    match value.get("do"):
        case "exit":
            print("last words", file=sys.stderr, flush=True)
            sys.exit(3)
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(60)
        case "garbage":
            say("this is no reply")
        case "huge":
            replies.write("x" * (80 << 20))
            replies.flush()
        case "partial":
            replies.write("{")
            replies.flush()
            time.sleep(60)
        case "late":
            say({"id": event["id"] - 1, "reject": "late"})
            say({"id": event["id"] + 5000, "reject": "early"})
            echo(event)
            say({"id": event["id"], "reject": "twice"})
        case "wrong":
            say({"id": event["id"], "emit": [{"topic": "out"}]})
        case "reject":
            say({"id": event["id"], "reject": "no", "type": "shop.NotSold", "stack": "at shop.py:1"})
        case "twice":
            echo(event) if event["attempt"] == 2 else say({"id": event["id"], "retry": "not yet", "after": 0.01})
        case _:
            echo(event)
"""


def project_of(folder: Path, kafka: str, argv: list[str], options: str = "") -> Project:
    (folder / "program.py").write_text(argv[2])
    return Project(folder, kafka, YAML.format(argv=f"['{sys.executable}', program.py]", options=options))


def by_key(project: Project) -> dict[str, list[int]]:
    """Outputs of each key in order, repeats removed."""
    found: dict[str, dict[int, None]] = {}
    for value in project.values("out"):
        found.setdefault(value["k"], {})[value["n"]] = None
    return {key: list(numbers) for key, numbers in found.items()}


def letters(project: Project) -> dict[int, dict[str, str]]:
    """The dead letters' headers by number."""
    import json

    found = {}
    for record in project.read("in.dlq"):
        headers = {name.removeprefix("kpipe-dlq-"): (value or b"").decode() for name, value in record.headers}
        found[json.loads(record.value or b"")["n"]] = headers
    return found


WRONGS = {
    7: ("exit", "crash", "exit code 3"),
    60: ("segv", "crash", "signal SIGSEGV"),
    110: ("hang", "timeout", "no answer within 1 s"),
    170: ("garbage", "exhausted", "'this is no reply'"),
    230: ("huge", "exhausted", "a line of more than"),
    290: ("partial", "timeout", "no answer within 1 s"),
    350: ("wrong", "output", "`emit[0]` has no `value`"),
    400: ("reject", "rejected", "no"),
}


def test_every_event_has_its_end_whatever_the_program_does(tmp_path: Path, kafka: str) -> None:
    project = project_of(tmp_path, kafka, each(FICKLE), "breaker: off")
    events: list[dict[str, Any]] = [{"k": f"k{n % 60}", "n": n} for n in range(1_000)]
    for n, (what, _, _) in WRONGS.items():
        events[n]["do"] = what
    for n in (500, 501, 700):
        events[n]["do"] = "late" if n != 700 else "twice"
    project.send("in", events)
    with project.worker("h") as worker:
        counts = worker.wait_settled(1_000, 120)
    assert counts == {"in": 1000, "done": 992, "dead_lettered": 8, "skipped": 0, "in_flight": 0}, worker.log
    wanted = {f"k{k}": [n for n in range(k, 1_000, 60) if n not in WRONGS] for k in range(60)}
    assert by_key(project) == wanted
    found = letters(project)
    assert {n: h["reason"] for n, h in found.items()} == {n: reason for n, (_, reason, _) in WRONGS.items()}
    for n, (_, _, said) in WRONGS.items():
        assert said in found[n]["error-message"], found[n]
    assert found[7]["exit"] == "exit code 3" and "last words" in found[7]["stack"]
    assert found[60]["exit"] == "signal SIGSEGV"
    assert (found[400]["error-type"], found[400]["stack"]) == ("shop.NotSold", "at shop.py:1")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit('there is no table')", "the program ended at once: exit code 1: there is no table"),
        ("say('hello'); time.sleep(60)", "the program said 'hello' before it was asked"),
    ],
)
def test_a_program_that_cannot_start_is_not_started_again(tmp_path: Path, kafka: str, body: str, said: str) -> None:
    project = project_of(tmp_path, kafka, program(body))
    with project.worker("h") as worker:
        assert worker.process.wait(30) == 78
        until("why", lambda: said in worker.log)


def test_an_event_that_takes_too_much_memory(tmp_path: Path, kafka: str) -> None:
    eat = "value.get('do') == 'eat' and (eaten := bytearray(300_000_000)) and time.sleep(60)\necho(event)"
    project = project_of(tmp_path, kafka, each(eat), "memory: 150MB")
    project.send("in", [{"k": f"k{n}", "n": n, **({"do": "eat"} if n == 5 else {})} for n in range(40)])
    with project.worker("h") as worker:
        counts = worker.wait_settled(40)
    assert (counts["done"], counts["dead_lettered"]) == (39, 1), worker.log
    letter = letters(project)[5]
    assert (letter["reason"], letter["error-type"]) == ("crash", "OutOfMemory")
    assert "more than 150 MB" in letter["error-message"]


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
def test_stopped_in_the_middle_no_event_runs_twice(tmp_path: Path, kafka: str, guarantee: str) -> None:
    """What the program has in its pipe is handled before it is let go; the worker leaves nothing behind."""
    project = project_of(tmp_path, kafka, each("time.sleep(0.005)\necho(event)"), f"guarantee: {guarantee}")
    project.send("in", [{"k": f"k{n % 50}", "n": n} for n in range(600)])
    with project.worker("h") as worker:
        until("it is in the middle", lambda: len(project.values("out")) > 50)
        below = psutil.Process(worker.process.pid).children(recursive=True)
        assert below and worker.terminate() == 0, worker.log
        until("no orphan", lambda: not any(p.is_running() for p in below))
    done = len(project.values("out"))
    assert 50 < done < 600
    with project.worker("h") as worker:
        worker.wait_settled(600)
    assert sorted(value["n"] for value in project.values("out")) == list(range(600))
    assert by_key(project) == {f"k{k}": list(range(k, 600, 50)) for k in range(50)}


HANGS = """
import asyncio
from orchestrator import Emit

async def handle(event):
    if event.value.get("do") == "hang":
        await asyncio.sleep(60)
    return Emit("out", event.value)
"""


@pytest.mark.parametrize("kind", ["exec", "python"])
def test_an_event_that_hangs_does_not_keep_the_breaker_open(tmp_path: Path, kafka: str, kind: str) -> None:
    """With nothing else to do the breaker opens; what comes then closes it, and the hanging event is given up."""
    options = "breaker: {failures: 2, wait: 50ms, max-wait: 50ms}"
    project = project_of(tmp_path, kafka, each(FICKLE), options)
    if kind == "python":
        text = YAML.format(argv="[x]", options=options).replace("exec: [x]", "python: code:handle")
        project = Project(tmp_path, kafka, text, {"code.py": HANGS})
    project.send("in", [{"k": "k0", "n": 0, "do": "hang"}])
    with project.worker("h") as worker:
        until("the breaker is open", lambda: "the breaker is open" in worker.log)
        for n in range(1, 200):
            project.send("in", [{"k": f"k{n}", "n": n}])
            if worker.accounting.get("dead_lettered"):
                break
            time.sleep(0.05)
        counts = worker.wait_settled(n + 1)
    assert (counts["done"], counts["dead_lettered"]) == (n, 1), worker.log
    assert letters(project)[0]["reason"] == "timeout"
