"""The publish endpoint's process under clients that are many, slow or wrong."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.gated import TOKEN, gated
from tests.support.sockets import FEW_FILES, cpu_seconds, get, idle, raw, spare_files, status

POST = b"POST /topics/orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def test_a_thousand_idle_connections(tmp_path: Path) -> None:
    with gated(tmp_path, FEW_FILES) as gate, idle(gate.port, 1100):
        process = psutil.Process(gate.process.pid)
        assert process.num_threads() < 20 and process.num_fds() < 128
        before = cpu_seconds(process.pid)
        assert status(raw(gate.port, get("/"))) == 200
        time.sleep(2)
        assert cpu_seconds(process.pid) - before < 1.5
        assert status(raw(gate.port, POST + b"Content-Length: 1\r\n\r\n1")) == 401
        assert gate.said.count("connections are open") == 1


def test_without_descriptors_it_goes_on_and_burns_nothing(tmp_path: Path) -> None:
    with gated(tmp_path) as gate:
        spare_files(gate.process.pid, 4)
        with idle(gate.port, 40):
            before = cpu_seconds(gate.process.pid)
            time.sleep(3)
            assert cpu_seconds(gate.process.pid) - before < 1.5
            assert status(raw(gate.port, get("/"))) == 200
        assert gate.said.count("Too many open files") == 1 and "Traceback" not in gate.said


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (POST + TOKEN + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (POST + TOKEN + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n", 413),
        (POST + TOKEN + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + TOKEN + b"Content-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc", 415),
        (POST + TOKEN + b"\r\n", 411),
        (POST + TOKEN + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n", 400),
        (POST.replace(b"/topics/orders", b"http://[/") + TOKEN + b"Content-Length: 1\r\n\r\n1", 400),
        (POST.replace(b"localhost", b"evil.example") + TOKEN + b"Content-Length: 1\r\n\r\n1", 421),
        (POST.replace(b"/topics", b"http://evil.example/topics") + TOKEN + b"Content-Length: 1\r\n\r\n1", 421),
        (POST.replace(b"POST", b"PUT") + TOKEN + b"Content-Length: 1\r\n\r\n1", 405),
        (b"DELETE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 9_000 + b"\r\n", 431),
    ],
)
def test_what_is_wrong_is_said_in_json(tmp_path: Path, request_: bytes, code: int) -> None:
    with gated(tmp_path) as gate:
        answer = raw(gate.port, request_)
        assert status(answer) == code, answer
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
        assert status(raw(gate.port, get("/"))) == 200
        assert "Traceback" not in gate.said and "report" not in gate.said


def test_a_head_in_single_bytes_has_its_deadline(tmp_path: Path) -> None:
    with gated(tmp_path) as gate:
        began = time.monotonic()
        answer = raw(gate.port, POST, *[b"X"] * 26, pause=0.5)
        assert status(answer) == 408 and time.monotonic() - began < 40


def test_a_host_can_be_allowed(tmp_path: Path) -> None:
    with gated(tmp_path, hosts=["host.docker.internal"]) as gate:
        assert status(raw(gate.port, get("/", "host.docker.internal:80"))) == 200
        assert status(raw(gate.port, get("/", "evil.example"))) == 421


def test_idle_clients_do_not_hold_up_its_end(tmp_path: Path) -> None:
    with gated(tmp_path) as gate, idle(gate.port, 20, b"GET / HTTP/1.1\r\n"):
        gate.process.send_signal(signal.SIGTERM)
        assert gate.process.wait(9) == 0
