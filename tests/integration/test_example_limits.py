"""The example's APIs, as they are served, under clients that are many, slow or wrong."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from handlers.orders_api import MAX_ITEMS
from tests.support.sockets import FEW_FILES, cpu_seconds, get, idle, raw, spare_files, status
from tests.support.up import free_port
from tests.support.worker import until

ROOT = Path(__file__).resolve().parents[2]
BOTH = pytest.mark.parametrize("name", ["orders_api", "tracking_api"])
HOST = b"Host: localhost\r\nConnection: close\r\n"


class Served:
    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self._log = port, process, log

    @property
    def said(self) -> str:
        return self._log.read_text()


@contextlib.contextmanager
def served(folder: Path, name: str, before: tuple[str, ...] = (), **environ: str) -> Iterator[Served]:
    port = free_port()
    given = {"PORT": str(port), "TRACKING_DB": str(folder / "db"), "KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", f"handlers.{name}"],
            cwd=ROOT, env={**os.environ, **given, **environ}, stderr=log,
        )  # fmt: skip
    try:
        api = Served(port, process, folder / "log")
        until("it runs", lambda: "Uvicorn running" in api.said or process.poll() is not None)
        yield api
    finally:
        process.kill()
        process.wait(10)


def order(port: int, body: bytes | Any, headers: bytes = b"") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    head = b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n" + headers
    answer = raw(port, head + b"Content-Length: %d\r\n\r\n" % len(data) + data)
    return status(answer), json.loads(answer.split(b"\r\n\r\n", 1)[1])


@BOTH
def test_a_thousand_idle_connections(tmp_path: Path, name: str) -> None:
    with served(tmp_path, name, FEW_FILES) as api, idle(api.port, 1100):
        process = psutil.Process(api.process.pid)
        before = cpu_seconds(process.pid)
        assert status(raw(api.port, get("/"))) == 200
        time.sleep(2)
        assert cpu_seconds(process.pid) - before < 2.5
        assert process.num_fds() < 128 and process.num_threads() < 60
        assert "Traceback" not in api.said


def test_unfinished_bodies_make_way(tmp_path: Path) -> None:
    head = b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    with served(tmp_path, "orders_api", FEW_FILES) as api, idle(api.port, 300, head):
        assert status(raw(api.port, get("/"))) == 200
        assert "Traceback" not in api.said


def test_without_descriptors_it_goes_on(tmp_path: Path) -> None:
    with served(tmp_path, "tracking_api") as api:
        assert status(raw(api.port, get("/"))) == 200
        spare_files(api.process.pid, 4)
        with idle(api.port, 20):
            before = cpu_seconds(api.process.pid)
            time.sleep(3)
            assert cpu_seconds(api.process.pid) - before < 1.5
        assert status(raw(api.port, get("/"))) == 200
        assert api.said.count("Too many open files") == 1 and "Traceback" not in api.said


@BOTH
def test_a_head_in_single_bytes_has_its_deadline(tmp_path: Path, name: str) -> None:
    with served(tmp_path, name) as api:
        answer = raw(api.port, b"GET / HTTP/1.1\r\n", *[b"X"] * 26, pause=0.5)
        assert status(answer) == 408 and b"application/json" in answer


@BOTH
def test_a_page_of_another_site_gets_nothing(tmp_path: Path, name: str) -> None:
    with served(tmp_path, name, ALLOWED_HOSTS="orders.internal") as api:
        for host in ("evil.example", "localhost.evil.example", "evil.example:80", "10.0.0.1", ""):
            answer = raw(api.port, get("/", host))
            assert status(answer) == 421 and b"application/json" in answer, (host, answer)
        for host in ("localhost", "127.0.0.1:3001", "[::1]", "orders.internal:1"):
            assert status(raw(api.port, get("/", host))) == 200, host


def test_opened_to_the_network_it_is_called_by_its_addresses(tmp_path: Path) -> None:
    with served(tmp_path, "tracking_api", HOST="0.0.0.0") as api:
        assert status(raw(api.port, get("/", "10.0.0.1:3002"))) == 200
        assert status(raw(api.port, get("/", "evil.example"))) == 421


@BOTH
@pytest.mark.parametrize(
    "request_",
    [
        b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET http://[/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /\r\n\r\n",
        b"DELETE / HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_what_is_wrong_is_the_clients_fault(tmp_path: Path, name: str, request_: bytes) -> None:
    with served(tmp_path, name) as api:
        assert 400 <= status(raw(api.port, request_)) < 500
        assert status(raw(api.port, get("/"))) == 200 and "Traceback" not in api.said


def test_orders_that_are_too_much(tmp_path: Path) -> None:
    with served(tmp_path, "orders_api") as api:
        good = {"userId": "u", "amount": 1, "items": ["a"]}
        code, said = order(api.port, {**good, "items": ["a"] * 200_000})
        assert code == 400 and said["violations"] == [
            {"path": "$.items", "message": f"has 200000 items; an order may have {MAX_ITEMS}"}
        ]
        code, said = order(api.port, {**good, "items": ["a", "b" * 201]})
        assert code == 400 and said["violations"][0]["path"] == "$.items[1]"
        code, said = order(api.port, {**good, **{f"x{n}": 0 for n in range(60_000)}})
        assert code == 400 and len(said["violations"]) == 21 and said["violations"][-1]["message"] == "and 59980 more"
        assert order(api.port, b'{"amount":' + b"9" * 5000 + b"}")[0] == 400
        assert order(api.port, b"[" * 100_000)[0] == 400
        assert order(api.port, b" " * 1_000_001)[0] == 413
        assert order(api.port, b"\x1f\x8b", b"Content-Encoding: gzip\r\n")[0] == 415
        assert "Traceback" not in api.said


def test_a_client_that_hangs_up_leaves_no_traceback(tmp_path: Path) -> None:
    head = b"POST /orders HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
    with served(tmp_path, "orders_api") as api:
        with idle(api.port, 3, head):
            pass
        assert status(raw(api.port, get("/"))) == 200
        until("they are forgotten", lambda: len(psutil.Process(api.process.pid).net_connections()) == 1)
        assert "Traceback" not in api.said
