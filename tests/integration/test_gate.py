"""Publishing over HTTP: what is answered is what happened."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from orchestrator.publish.gateway import Gate, site
from orchestrator.serving import Hosts, Server
from orchestrator.targets import Target
from tests.support.up import Up
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
topics:
  orders: {schema: order.json, key: id, configs: {max.message.bytes: 100KB}}
  other: {}
handlers:
  api: {service: node api.js, produces: [orders]}
  web: {service: node web.js, produces: [other]}
"""
SCHEMA = '{"type": "object", "required": ["id"], "properties": {"amount": {"type": "number", "minimum": 0}}}'


class Said(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """One connection to a gate."""

    def __init__(self, port: int, token: str | None = "t-api") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def post(self, path: str, body: Any, **headers: str) -> Said:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request("POST", path, data, {**self._headers, **headers})
        answer = self._connection.getresponse()
        return Said(answer.status, json.loads(answer.read()), {k.lower(): v for k, v in answer.headers.items()})


@contextmanager
def gate(project: Project, bootstrap: str, timeout: float = 5.0) -> Iterator[int]:
    made = Gate(project.pipeline, bootstrap, {"t-api": "api", "t-web": "web"}, timeout)
    listening = socket.create_server(("127.0.0.1", 0))
    port = int(listening.getsockname()[1])
    loop, ending = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with Server(listening, site(made, Hosts()), print):
            await ending.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(20)
        made.close()
        loop.close()


@pytest.fixture
def project(tmp_path: Path, kafka: str) -> Project:
    return Project(tmp_path, kafka, YAML, {"order.json": SCHEMA})


def test_what_was_acknowledged_is_there(project: Project) -> None:
    with gate(project, project.bootstrap) as port:
        client = Client(port)
        said = client.post(
            "/topics/orders",
            {"id": "a", "amount": 1},
            traceparent="00-1-2-01",
            **{"Kpipe-Header-Who": "me", "Kpipe-Header-Kpipe-Source": "g/t/0/0/1"},
        )
        assert said.status == 202 and said.body.keys() == {"topic", "partition", "offset"}
        assert said.body["topic"] == "orders"
        record = project.read("orders")[0]
        assert (record.partition, record.offset) == (said.body["partition"], said.body["offset"])
        assert record.key == b"a" and record.headers == (("traceparent", b"00-1-2-01"), ("who", b"me"))
        assert client.post("/topics/orders?key=x%20y", b"null").status == 202  # on the same connection
        large = client.post("/topics/orders", {"id": "large", "text": "x" * 3_000_000})
        assert large.status == 202, "compressed it is far below the topic's limit"
    found = {r.key: r.value for r in project.read("orders")}
    assert found[b"x y"] is None and len(found[b"large"] or b"") > 3_000_000


def test_a_body_that_no_request_to_kafka_could_carry_is_refused_unread(project: Project) -> None:
    with gate(project, project.bootstrap) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.putrequest("POST", "/topics/orders")
        connection.putheader("Authorization", "Bearer t-api")
        connection.putheader("Content-Length", str(104_857_601))
        connection.endheaders(b"{")
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.getresponse().status == 413


def test_what_is_refused_was_not_sent(project: Project) -> None:
    with gate(project, project.bootstrap) as port:
        broken = Client(port).post("/topics/orders", {"amount": -1})
        assert broken.status == 422
        assert {v["path"] for v in broken.body["violations"]} == {"$.id", "$.amount"}
        for path, body, token, status in (
            ("/topics/orders", b'{"id": NaN}', "t-api", 400),
            ("/topics/orders", b"", "t-api", 400),
            ("/topics/orders", {"id": "a"}, None, 401),
            ("/topics/orders", {"id": "a"}, "t-other", 401),
            ("/topics/orders", {"id": "a"}, "t-web", 404),  # another service's
            ("/topics/nowhere", {"id": "a"}, "t-api", 404),
            ("/", {"id": "a"}, "t-api", 404),
            ("/topics/orders", {"id": "a", "noise": os.urandom(200_000).hex()}, "t-api", 413),  # Kafka says so
            ("/topics/orders", b"null", "t-api", 422),  # a tombstone without a key
        ):
            said = Client(port, token).post(path, body)
            assert said.status == status and said.body["error"], (path, status, said)
    assert project.read("orders") == []


def test_a_body_in_chunks(project: Project) -> None:
    with gate(project, project.bootstrap) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        noise = os.urandom(200_000).hex().encode()  # more than the topic takes, compressed or not
        for body, status in (([b'{"id":', b'"a"}'], 202), ([b'{"id":"b","noise":"', noise, b'"}'], 413)):
            connection.request("POST", "/topics/orders", iter(body), {"Authorization": "Bearer t-api"})
            answer = connection.getresponse()
            assert answer.status == status, answer.read()
            answer.read()
    assert [value["id"] for value in project.values("orders")] == ["a"]


def test_many_at_once(project: Project) -> None:
    """More clients than threads there are to serve them, each with its own answer."""
    with gate(project, project.bootstrap) as port, ThreadPoolExecutor(60) as clients:

        def post(n: int) -> int:
            return Client(port).post("/topics/orders", {"id": f"n{n}"}).status

        assert set(clients.map(post, range(300))) == {202}
    assert len(project.values("orders")) == 300


def test_kafka_away(project: Project) -> None:
    with gate(project, "127.0.0.1:1", timeout=0.3) as port:
        said = Client(port).post("/topics/orders", {"id": "a"})
        assert said.status == 503 and said.headers["retry-after"] == "1" and "within 0.3 s" in said.body["error"]


SERVICE = """
const post = async (id) => {
    const url = process.env.KPIPE_PUBLISH_URL + "/topics/orders";
    const headers = {authorization: "Bearer " + process.env.KPIPE_PUBLISH_TOKEN};
    try {
        const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify({id})});
        console.log(id, answer.status, JSON.stringify(await answer.json()));
    } catch (e) {
        console.log(id, "failed", e.message);
    }
};
let n = 0;
const next = () => post("n" + n++).then(() => setTimeout(next, 50));
next();
"""


def test_a_service_in_another_language_under_up(tmp_path: Path, kafka: str) -> None:
    """It publishes as soon as it starts; the endpoint's process may die meanwhile, and leaves nothing behind."""
    yaml = YAML.replace("  web: {service: node web.js, produces: [other]}\n", "")
    project = Project(tmp_path, kafka, yaml, {"order.json": SCHEMA, "api.js": textwrap.dedent(SERVICE)})
    up = Up(project, (), {})  # type: ignore[arg-type]
    try:
        up.says("n0 202 ")
        gates = [p for p in psutil.Process(up.process.pid).children(recursive=True) if is_gate(p)]
        before = up.out.count(" 202 ")
        os.kill(gates[-1].pid, signal.SIGKILL)
        until("it publishes again", lambda: up.out.count(" 202 ") >= before + 3)
        up.signal(signal.SIGTERM)
        assert up.ended() == 128 + signal.SIGTERM, up.err
        assert not any(p.is_running() for p in gates)
    finally:
        up.process.kill()
    assert "n0" in [value["id"] for value in project.values("orders")]


def is_gate(process: psutil.Process) -> bool:
    return Target.GATEWAY in process.cmdline()
