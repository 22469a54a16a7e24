"""`kpipe up` under clients that are many or wrong, at the metrics port and at the control socket."""

from __future__ import annotations

import json
import re
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.sockets import FEW_FILES, cpu_seconds, get, idle, raw, spare_files, status
from tests.support.up import IDLE, Project, Up

pytestmark = pytest.mark.kafka


@pytest.fixture
def project(tmp_path: Path, kafka: str) -> Project:
    project = Project(tmp_path, kafka, {"idle": IDLE})
    (tmp_path / "work.py").write_text("def handle(event):\n    print('did', event.value['n'], flush=True)\n")
    with (tmp_path / "pipeline.yaml").open("a") as file:
        file.write(
            f"  work: {{python: 'work:handle', consumes: [jobs], dlq: none}}\nnamespace: n{secrets.token_hex(4)}\n"
            "topics: {jobs: {partitions: 1, key: n, dlq: none}}\n"
        )
    return project


@pytest.fixture
def up(project: Project) -> Iterator[Up]:
    with project.up(after=("--metrics-port", "0"), before=FEW_FILES) as up:
        yield up.ready()


def port(up: Up) -> int:
    return int(re.search(r"metrics: http://127\.0\.0\.1:(\d+)/", up.err + up.out)[1])  # type: ignore[index]


def works(up: Up, n: int) -> None:
    """Events are handled, commands are answered, and so are new clients."""
    project = up.project
    assert project.kpipe("send", "jobs", "-", input=json.dumps({"n": n})).returncode == 0
    up.says(f"did {n}")
    handlers = json.loads(project.kpipe("--json", "ps").stdout)["handlers"]
    assert {h["name"]: h["state"] for h in handlers} == {"idle": "ready", "work": "ready"}
    assert b"kpipe_records_total" in raw(port(up), get("/metrics"))
    assert status(raw(project.state / "control.sock", get("/v1"))) == 200


@pytest.mark.parametrize("listener", ["metrics", "control"])
def test_a_thousand_idle_connections(up: Up, listener: str) -> None:
    process = psutil.Process(up.process.pid)
    threads = process.num_threads()
    with idle(port(up) if listener == "metrics" else up.project.state / "control.sock", 1100):
        before = cpu_seconds(process.pid)
        works(up, 1)
        time.sleep(2)
        assert cpu_seconds(process.pid) - before < 5, "of ten seconds and more"
        assert process.num_fds() < 200 and process.num_threads() < threads + 10
    works(up, 2)
    up.signal(signal.SIGTERM)
    assert up.ended() == 128 + signal.SIGTERM, up.err
    assert "report" not in up.err and up.err.count("connections are open") == 1


def test_without_descriptors_it_goes_on(up: Up) -> None:
    raw(port(up), get("/metrics"))  # what it reads from disk for that is read
    spare_files(up.process.pid, 4)
    with idle(port(up), 40):
        before = cpu_seconds(up.process.pid)
        time.sleep(3)
        assert cpu_seconds(up.process.pid) - before < 1.5
        works(up, 1)
    up.signal(signal.SIGTERM)
    assert up.ended() == 128 + signal.SIGTERM, up.err
    assert up.err.count("Too many open files") == 1 and "report" not in up.err


def test_a_page_of_another_site_reads_no_metrics(project: Project) -> None:
    environ = {**psutil.Process().environ(), "KPIPE_ALLOWED_HOSTS": "metrics.internal"}
    with project.up(after=("--metrics-port", "0"), env=environ) as up:
        up.ready()
        answer = raw(port(up), get("/metrics", "evil.example"))
        assert status(answer) == 421 and "KPIPE_ALLOWED_HOSTS" in json.loads(answer.split(b"\r\n\r\n")[1])["hint"]
        assert b"kpipe_" not in answer
        for host in ("localhost:1", "127.0.0.1", "[::1]:1", "metrics.internal"):
            assert status(raw(port(up), get("/metrics", host))) == 200
        assert status(raw(port(up), b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 405
        assert status(raw(port(up), get("/v1/ps"))) == 404, "the control API is not on this port"
