"""`kpipe smoke`: by itself, on a cluster that is there, and against what runs; what fails, and that nothing is left."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as XML

import psutil
import pytest

from orchestrator.config.model import KafkaSettings
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from tests.docs.test_json_docs import check
from tests.support.shell import KPIPE, Done, environment, eventually, kpipe

ROOT = Path(__file__).parents[2]
WRONG = """
smoke: 1
within: 5s
scenarios:
  rejected, and not authorized:
    steps:
      - http: {handler: orders-api, method: POST, path: /orders, json: {userId: u, amount: 500, items: [a]}}
        capture: {orderId: json.orderId}
      - expect: {topic: payments.rejected, key: "${orderId}"}
      - expect: {topic: payments.authorized, match: {orderId: "${orderId}"}}
        within: 200ms
  twice is not once:
    steps:
      - send: {event: order, copies: 2}
      - accounting: {payments: {done: 2}}
  not there:
    steps:
      - http: {handler: tracking-api, path: /nowhere}
        within: 200ms
  not sent:
    steps:
      - send: {event: order, set: {amount: ten}}
"""


@contextmanager
def nothing_left(tmp: Path) -> Iterator[dict[str, str]]:
    """The environment for a `smoke` whose folder is in `tmp`; afterwards no file and no process of it is there."""
    tmp.mkdir()
    yield {"TMPDIR": str(tmp)}
    assert list(tmp.iterdir()) == []
    eventually(lambda: _processes(tmp) == [])


def _processes(tmp: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(tmp) in words:
            found.append(words)
    return found


def example(folder: Path) -> Path:
    for name in ("pipeline.yaml", "smoke.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("schemas", "handlers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_the_example_keeps_its_scenarios_and_fails_others_with_their_story(tmp_path: Path, kafka: str) -> None:
    folder = example(tmp_path)
    (folder / "wrong.yaml").write_text(WRONG)
    with nothing_left(tmp_path / "tmp") as env:
        words = ("smoke", "smoke.yaml", "wrong.yaml", "--bootstrap", kafka, "--junit", "out/junit.xml", "--json")
        done = kpipe(folder, *words, env=env, timeout=150)
    assert done.code == 6, done.err
    verdicts = json.loads(done.out)
    check("verdicts", verdicts)
    by_file: dict[str, list[dict[str, Any]]] = {"smoke.yaml": [], "wrong.yaml": []}
    for verdict in verdicts["scenarios"]:
        by_file[verdict["file"]].append(verdict)
    assert [(v["name"], v["failure"]) for v in by_file["smoke.yaml"] if not v["passed"]] == []
    assert len(by_file["smoke.yaml"]) == (ROOT / "smoke.yaml").read_text().count("steps:")
    rejected, twice, nowhere, unsent = (v["failure"] for v in by_file["wrong.yaml"])
    assert (rejected["line"], rejected["column"], rejected["kind"]) == (10, 9, "expect")
    story = [(r["topic"], [(h["name"], h["outcome"]) for h in r["handlers"]]) for r in rejected["records"]]
    assert story[0] == ("orders.created", [("payments", "done"), ("tracking", "done")])
    assert story[1][0] == "payments.rejected"
    assert "none came within 0.2 s" in rejected["message"]
    assert twice["message"] == "accounting: $.payments.done: expected 2, found 1"
    assert "expected 2xx, found 404" in nowhere["message"] and nowhere["records"] == []
    assert '$.amount "ten" is not of type "number"' in unsent["message"]
    suite = XML.parse(folder / "out" / "junit.xml").getroot()[0]
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("4", "0")
    assert len(suite) == len(verdicts["scenarios"]) == int(suite.attrib["tests"])
    admin = ClusterAdmin(client_properties(KafkaSettings(), "admin", kafka))
    assert [name for name in admin.topic_names() if name.startswith("smoke-")] == []
    assert not (folder / ".kpipe").exists(), "what runs in the folder is left alone"


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_a_new_project_passes_its_own_on_a_kafka_of_its_own(tmp_path: Path) -> None:
    assert kpipe(tmp_path, "init", "new").code == 0
    with nothing_left(tmp_path / "tmp") as env:
        done = kpipe(tmp_path / "new", "smoke", env=env, timeout=110)
    assert done.code == 0, done.err + done.out
    lines = done.out.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["SCENARIO", "RESULT", "STEPS", "TIME"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "a greeting that is asked for is given",
        "nobody cannot be greeted",
    ]
    assert "2 passed, 0 failed in " in done.err and "\x1b" not in done.out
    assert not (tmp_path / "new" / ".kpipe").exists()


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_the_script_of_the_readme(tmp_path: Path) -> None:
    """Its four lines, as they stand there, in a new project."""
    readme = (ROOT / "README.md").read_text("utf-8")
    [script] = re.findall(r"```sh\n(kpipe up -d --wait\n.*?)```", readme, re.DOTALL)
    assert len(script.splitlines()) == 4
    assert kpipe(tmp_path, "init", "new").code == 0
    path = f"{Path(KPIPE).parent}:{environment()['PATH']}"
    done = subprocess.run(
        ["sh", "-ex", "-c", script], cwd=tmp_path / "new", env=environment({"PATH": path}), capture_output=True,
        text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert XML.parse(tmp_path / "new" / "smoke.xml").getroot()[0].attrib["failures"] == "0"
    assert "rejected" in done.stdout, "the letter of the second scenario is listed"
    eventually(lambda: _processes(tmp_path) == [])


def broken(folder: Path, code: str) -> Path:
    assert kpipe(folder, "init", ".").code == 0
    (folder / "handlers" / "greeter.py").write_text(code)
    return folder


@pytest.mark.kafka
def test_a_handler_that_cannot_start_is_5(tmp_path: Path, kafka: str) -> None:
    folder = broken(tmp_path, "greet = 1\n")
    with nothing_left(tmp_path / "tmp") as env:
        done = kpipe(folder, "smoke", "--bootstrap", kafka, "--junit", "junit.xml", env=env)
    assert done.code == 5 and "greet" in done.err, done.err
    suite = XML.parse(folder / "junit.xml").getroot()[0]
    assert [case[0].tag for case in suite] == ["error", "error"]
    assert "greet" in suite[0][0].attrib["message"]


@pytest.mark.kafka
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_whatever_ends_it_nothing_runs_on(tmp_path: Path, kafka: str, number: signal.Signals, code: int) -> None:
    folder = broken(tmp_path, "import time\ntime.sleep(60)\n")  # it never gets ready
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    words = [KPIPE, "smoke", "--bootstrap", kafka]
    child = subprocess.Popen(words, cwd=folder, env=environment({"TMPDIR": str(tmp)}), stderr=subprocess.DEVNULL)
    eventually(lambda: any("up" in words.split() for words in _processes(tmp)))
    child.send_signal(number)
    assert child.wait(30) == code
    eventually(lambda: _processes(tmp) == [])
    if number == signal.SIGINT:
        assert list(tmp.iterdir()) == []


def test_wrong_words(tmp_path: Path) -> None:
    assert kpipe(tmp_path, "init", ".").code == 0
    assert kpipe(tmp_path, "smoke", "--running").err.startswith("error: nothing runs in ")

    def wrong(*words: str) -> Done:
        done = kpipe(tmp_path, "smoke", *words)
        assert done.code == 2 and done.out == ""
        return done

    assert "there is no scenario `nobody`" in wrong("--scenario", "nobody").err
    assert "give one of them" in wrong("--running", "--bootstrap", "x:1").err
    assert "nope.yaml: error: cannot be read" in wrong("nope.yaml").err
    (tmp_path / "smoke.yaml").write_text("smoke: 1\nscenarios:\n  a:\n    steps:\n    - send: {event: greting}\n")
    assert "smoke.yaml:5:21: error: the pipeline file has no event `greting`" in wrong().err
    assert kpipe(tmp_path, "validate").out.startswith("smoke.yaml:5:21: error: ")
    (tmp_path / "smoke.yaml").unlink()
    assert "there is no smoke.yaml" in wrong().err
    assert json.loads(kpipe(tmp_path, "validate", "--print-smoke-schema").out)["$id"] == "urn:kpipe:smoke:1"
