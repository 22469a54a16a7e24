"""`http:` handlers against a real endpoint: what is posted, and what each answer means."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event, Letter
from orchestrator.records import Record
from orchestrator.worker.runners.http import HealthProbe, HttpHandler, retry_after
from orchestrator.worker.runners.http_connections import IDLE_SECONDS
from tests.support.endpoint import Endpoint, Reply, endpoint
from tests.support.worker import until


def event(value: bytes | None = b'{ "n": 1.10 }', headers: Any = (), key: bytes | None = b"k 1", **more: Any) -> Event:
    record = Record("ns.in", 2, 7, 1_700_000_000_123, key, value, headers)
    return Event(record, None if value is None else {"n": 1.1}, topic="in", **more)


def handler(url: str, **options: Any) -> Handler:
    return Handler("h", "http", url, "g", **{"produces": ("out",), "timeout": 5.0, **options})


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint(lambda _: Reply()) as server:
        yield server


@pytest.fixture
def run(server: Endpoint) -> Iterator[Any]:
    runner = HttpHandler(handler(server.url, headers={"Authorization": "Bearer x"}), "shop")
    yield runner.run
    runner.close()


def test_an_event_is_posted_as_a_cloud_event(server: Endpoint, run: Any) -> None:
    trace = (
        ("traceparent", b"00-1-2-01"),
        ("other", b"no"),
        ("ce_type", b"com.example.n"),
        ("ce_subject", "ü %".encode()),
    )
    assert run(event(headers=trace, id="e-1", attempt=3)) == []
    request = server.asked[0]
    assert (request.method, request.path, request.body) == ("POST", "/events", b'{ "n": 1.10 }')
    wanted = {
        "ce-specversion": "1.0",
        "ce-id": "e-1",
        "ce-source": "/shop/in",
        "ce-type": "com.example.n",
        "ce-subject": "%C3%BC%20%25",
        "ce-time": "2023-11-14T22:13:20.123Z",
        "ce-partitionkey": "k%201",
        "ce-partition": "2",
        "ce-offset": "7",
        "ce-attempt": "3",
        "traceparent": "00-1-2-01",
        "content-type": "application/json",
        "authorization": "Bearer x",
    }
    assert wanted.items() <= dict(request.headers).items()
    assert "other" not in request.headers


def test_events_without_an_id_a_key_or_a_value(server: Endpoint, run: Any) -> None:
    assert run(event(None, key=None)) == []
    headers = server.asked[0].headers
    assert headers["ce-id"] == "in/2/7" and "ce-partitionkey" not in headers and "content-type" not in headers
    assert server.asked[0].body == b""


def test_a_letter_says_why_it_is_one(server: Endpoint, run: Any) -> None:
    letter = Letter("g/in/0/1", "in", 0, 1, "h", "decode", error_message="no\nJSON")
    raw = Event(Record("in.dlq", 0, 0, 0, None, b"\xff", ()), None, letter=letter)
    assert run(raw) == []
    headers = server.asked[0].headers
    assert headers["kpipe-dlq-reason"] == "decode" and headers["kpipe-dlq-error-message"] == "no%0AJSON"
    assert headers["content-type"] == "application/octet-stream" and server.asked[0].body == b"\xff"


EMITS = [{"topic": "out", "value": {"a": 1}, "key": "k"}]


@pytest.mark.parametrize(
    ("reply", "emitted"),
    [
        (Reply(200, {"emit": EMITS}), 1),
        (Reply(201, EMITS), 1),
        (Reply(200, EMITS, {"content-type": "application/vnd.x+json; charset=utf-8"}), 1),
        (Reply(200, []), 0),
        (Reply(200, {}), 0),
        (Reply(202, b" \n"), 0),
        (Reply(204), 0),
    ],
)
def test_a_good_answer(server: Endpoint, run: Any, reply: Reply, emitted: int) -> None:
    server.answer = lambda _: reply
    assert len(run(event())) == emitted


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"fine"),
        Reply(200, {"status": "fine"}),
        Reply(200, b'{"emit": []}'),  # without its content type
        Reply(200, b"{", {"content-type": "application/json"}),
        Reply(200, {"emit": [{"topic": "out"}]}),
        Reply(200, [1]),
    ],
)
def test_a_good_status_with_an_answer_that_is_none(server: Endpoint, run: Any, reply: Reply) -> None:
    server.answer = lambda _: reply
    failed = run(event())
    assert isinstance(failed, Failed) and failed.verdict == "output" and failed.error_type == "ProtocolError"


def test_where_nothing_is_produced_any_good_answer_will_do(server: Endpoint) -> None:
    runner = HttpHandler(handler(server.url, produces=()), "shop")
    server.answer = lambda _: Reply(200, {"status": "fine"})
    assert runner.run(event()) == []
    server.answer = lambda _: Reply(200, {"emit": EMITS})
    assert len(runner.run(event())) == 1  # and is then refused as any undeclared output
    runner.close()


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((301, 308, 401, 403, 404, 405, 429, 502, 503, 504), "unavailable"),
        ((408, 425, 500, 501, 507), "retry"),
        ((400, 402, 406, 409, 410, 413, 422, 451), "reject"),
    ],
)
def test_what_a_status_means(server: Endpoint, run: Any, statuses: tuple[int, ...], verdict: str) -> None:
    for status in statuses:
        server.answer = lambda _, status=status: Reply(status, b"because\n  of this", {"retry-after": "7"})
        failed = run(event())
        assert (failed.verdict, failed.error_type) == (verdict, f"HTTP {status}")
        assert f"answered {status}" in failed.message and failed.message.endswith(": because of this")
        assert failed.after == (None if verdict == "reject" else 7.0)


def test_retry_after() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (retry_after(soon) or 0) <= 30
    assert retry_after(format_datetime(datetime(2000, 1, 1, tzinfo=UTC), usegmt=True)) == 0.0
    assert retry_after("999999999") == 3600.0
    assert retry_after("soon") is None and retry_after("") is None


def test_no_connection_is_away_and_says_no_secret() -> None:
    runner = HttpHandler(handler("http://user:secret@127.0.0.1:1/x?token=secret"), "shop")
    failed = runner.run(event())
    runner.close()
    assert isinstance(failed, Failed) and failed.verdict == "unavailable"
    assert "POST http://127.0.0.1:1/x: no connection" in failed.message and "secret" not in failed.message


def test_a_connection_that_breaks_costs_an_attempt(server: Endpoint, run: Any) -> None:
    server.answer = lambda _: Reply(0)
    failed = run(event())
    assert failed.verdict == "retry" and "the connection broke" in failed.message


def test_the_deadline_covers_the_whole_exchange(server: Endpoint) -> None:
    ended = threading.Event()

    def slow(_: object) -> Reply:
        ended.wait(10)
        return Reply()

    server.answer = slow
    runner = HttpHandler(handler(server.url, timeout=0.5), "shop")
    failed = runner.run(event())
    assert isinstance(failed, Failed) and failed.verdict == "timeout"
    ended.set()
    server.answer = lambda _: Reply()
    assert runner.run(event()) == []  # the late answer belongs to nobody
    runner.close()


def test_a_request_is_no_line_of_the_log(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert run(event()) == []
    assert not caplog.records


def test_those_that_come_later_use_the_connections_that_are_there(server: Endpoint) -> None:
    threads: set[int] = set()  # the server has one for each connection
    together = threading.Barrier(8, timeout=5)

    def answer(_: object) -> Reply:
        threads.add(threading.get_ident())
        together.wait()
        return Reply()

    server.answer = answer
    runner = HttpHandler(handler(server.url, concurrency=8), "shop")

    async def all_of_them() -> list[Any]:
        running = asyncio.Semaphore(8)

        async def one() -> Any:
            async with running:
                return await runner.run_async(event())

        return await asyncio.gather(*(one() for _ in range(24)))

    assert asyncio.run(all_of_them()) == [[]] * 24
    assert len(threads) == 8


@types.coroutine
def due_at(number: int, run: Any, limits: list[asyncio.Timeout], passed: list[int]) -> Any:
    """`run` to its end; at its suspension of that `number` its deadline passes. `passed` is how many there were."""
    step: Callable[[], Any] = partial(run.send, None)
    while True:
        try:
            awaited = step()
        except StopIteration as e:
            return e.value
        passed[0] += 1
        if passed[0] == number:
            limits[0].reschedule(asyncio.get_running_loop().time())
        try:
            yield awaited
            step = partial(run.send, None)
        except BaseException as e:
            step = partial(run.throw, e)


@pytest.mark.parametrize("connected", [False, True])
def test_whenever_the_deadline_passes_the_next_event_has_a_connection(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch, connected: bool
) -> None:
    limits: list[asyncio.Timeout] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio, name)

        def timeout(self, seconds: float) -> asyncio.Timeout:
            limits.append(asyncio.timeout(seconds))
            return limits[-1]

    monkeypatch.setattr("orchestrator.worker.runners.http.asyncio", Watched())

    async def cut_short(number: int) -> bool:
        """Whether it came to its end before that."""
        runner = HttpHandler(handler(server.url, timeout=2.0), "shop")
        if connected:
            assert await runner.run_async(event()) == []
        limits.clear()
        passed = [0]
        answer = await due_at(number, runner.run_async(event()), limits, passed)
        assert answer == [] or answer.verdict == "timeout"
        assert [await runner.run_async(event()) for _ in range(2)] == [[], []]
        return passed[0] < number

    number = 1
    while not asyncio.run(cut_short(number)):
        number += 1
    assert number > 4


def test_connections_that_nobody_uses_are_closed(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8, timeout=5)

    def answer(_: object) -> Reply:
        together.wait()
        return Reply()

    server.answer = answer
    runner = HttpHandler(handler(server.url, concurrency=8), "shop")

    async def a_burst_and_then_one_at_a_time() -> None:
        assert await asyncio.gather(*(runner.run_async(event()) for _ in range(8))) == [[]] * 8
        server.answer = lambda _: Reply()
        assert await runner.run_async(event()) == []
        assert len(connections(server.port)) == 8
        now = time.monotonic()
        monkeypatch.setattr(
            "orchestrator.worker.runners.http_connections.time",
            SimpleNamespace(monotonic=lambda: now + IDLE_SECONDS + 1),
        )
        assert [await runner.run_async(event()) for _ in range(2)] == [[], []]
        assert len(connections(server.port)) == 1

    asyncio.run(a_burst_and_then_one_at_a_time())


def connections(port: int) -> list[Any]:
    """This process's connections to that port, as their client."""
    return [c for c in psutil.Process().net_connections() if c.raddr and c.raddr[1] == port and c.status != "TIME_WAIT"]


def test_the_health_probe(server: Endpoint) -> None:
    done = threading.Event()
    probe = HealthProbe(handler(server.url, health="/healthz"), done.set)

    def asked() -> str:
        done.clear()
        assert probe.look() is None
        assert done.wait(5)
        return until("an answer", lambda: [probe.look()])[0]

    server.answer = lambda _: Reply(503)
    assert asked() == f"GET http://127.0.0.1:{server.port}/healthz answered 503"
    server.answer = lambda _: Reply(200)
    assert asked() == ""
    assert server.asked[-1].path == "/healthz" and server.asked[-1].method == "GET"
