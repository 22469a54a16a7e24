"""Listeners under clients that are slow, silent, many or wrong: real sockets, short deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.serving import Hosts, ListenerLimits, Page, Request, Response, Server, Site
from tests.support.sockets import get, idle, raw, status
from tests.support.worker import until

QUICK = ListenerLimits(connections=8, head_seconds=0.5, body_seconds=0.5, answer_seconds=0.5)
POST = b"POST /body HTTP/1.1\r\nHost: localhost\r\n"


@dataclass
class Listener:
    """A server in a thread of its own."""

    port: int = 0
    told: list[str] = field(default_factory=list)
    open: Callable[[], int] = lambda: 0
    #: Requests for /wait are answered once it is set.
    go: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0

    async def answer(self, request: Request) -> Response | Page:
        if request.path == "/wait":
            self.waiting += 1
            await asyncio.to_thread(self.go.wait, 30)
        if request.path == "/large":
            return Page(200, "x" * 50_000_000, "text/plain")
        if request.path == "/bug":
            raise ValueError("a bug of ours")
        if request.path == "/full":
            raise OSError(errno.EMFILE, "Too many open files")
        body = await request.body(10) if request.method == "POST" else b""
        return Response(200, {"body": body.decode(), "query": request.query})


@contextlib.contextmanager
def served(limits: ListenerLimits = QUICK, listening: socket.socket | None = None) -> Iterator[Listener]:
    listener, ready = Listener(), threading.Event()
    bound = listening or socket.create_server(("127.0.0.1", 0), backlog=100)
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def run() -> None:
        async with Server(bound, Site(listener.answer, Hosts(), limits), listener.told.append) as server:
            listener.port, listener.open = server.port, lambda: len(server._open)
            ready.set()
            await ending.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(10)
        yield listener
    finally:
        listener.go.set()
        loop.call_soon_threadsafe(ending.set)
        thread.join(20)
        assert not thread.is_alive()
        loop.close()


def body_of(answer: bytes) -> Any:
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "slowly"),
    [(b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100), (POST + b"Content-Length: 10\r\n\r\n", b"1" * 9)],
    ids=["head", "body"],
)
def test_a_byte_now_and_then_extends_nothing(head: bytes, slowly: bytes) -> None:
    with served() as listener:
        answer = raw(listener.port, head, *(bytes([byte]) for byte in slowly), pause=0.1)
        assert status(answer) == 408 and "took over 0.5 s" in body_of(answer)["error"]


def test_a_silent_connection_is_closed_without_a_word() -> None:
    with served() as listener:
        assert raw(listener.port) == b""
        until("it is forgotten", lambda: listener.open() == 0)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    with served(QUICK._replace(idle_seconds=0.5)) as listener:
        answer = raw(listener.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(answer) == 200 and b"Connection: close" not in answer


def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    with served() as listener, socket.create_connection(("127.0.0.1", listener.port)) as client:
        client.sendall(get("/large"))
        until("it is served", lambda: listener.open() == 1)
        until("it is given up", lambda: listener.open() == 0)


# -- what is said -----------------------------------------------------------------------------------------------------

WRONG = {
    "huge length": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "bad Content-Length"),
    "20 digits": (POST + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n", 413, "longer than 10 bytes"),
    "no number": (POST + b"Content-Length: 1_0\r\n\r\n", 400, "bad Content-Length"),
    "negative": (POST + b"Content-Length: -1\r\n\r\n", 400, "bad Content-Length"),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "conflicting Content-Length"),
    "length and chunks": (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "exclude each other"),
    "other coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "chunked"),
    "bad chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "chunked"),
    "long chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nb\r\n" + b"x" * 11 + b"\r\n0\r\n\r\n", 413, "10 bytes"),
    "gzip": (POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415, "Content-Encoding"),
    "no address": (b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "target"),
    "NUL": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400, "no HTTP request"),
    "NUL in target": (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "no HTTP request"),
    "long header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431, "16384 bytes"),
    "many headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 431, "longer"),
    "some headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "100 headers"),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400, "no HTTP request"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", 400, "Host"),
    "wrong Host": (get("/", host="evil.example"), 421, "evil.example"),
    "wrong address": (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 421, "evil.example"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "no HTTP request"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_json(name: str) -> None:
    request, code, words = WRONG[name]
    with served() as listener:
        answer = raw(listener.port, request)
        assert status(answer) == code and words in body_of(answer)["error"], answer
        assert b"Connection: close" in answer and b"Content-Type: application/json" in answer
        assert status(raw(listener.port, get("/"))) == 200 and listener.told == []


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        (POST + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n", "hello"),
        (POST + b"\r\n", ""),
        (b"GET http://LOCALHOST:1/x?y HTTP/1.1\r\nHost: evil\r\n\r\n", ""),
        (b"GET / HTTP/1.0\r\n\r\n", ""),
    ],
)
def test_what_is_unusual_and_right(request_: bytes, body: str) -> None:
    with served() as listener:
        answer = raw(listener.port, request_)
        assert status(answer) == 200 and body_of(answer)["body"] == body


def test_a_client_that_waits_for_a_word_gets_it() -> None:
    with served() as listener:
        expecting = POST + b"Expect: 100-continue\r\nContent-Length: "
        assert raw(listener.port, expecting + b"5\r\n\r\n", b"hello", pause=0.1).startswith(b"HTTP/1.1 100 ")
        assert status(raw(listener.port, expecting + b"11\r\n\r\n")) == 413


def test_requests_in_a_row() -> None:
    three = b"".join(b"GET /?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n for n in range(3))
    with served(QUICK._replace(idle_seconds=0.5)) as listener:
        answer = raw(listener.port, three)
        assert [f'"query": "{n}"'.encode() in answer for n in range(4)] == [True, True, True, False]
    with served() as listener:
        assert raw(listener.port, three).count(b"HTTP/1.1 200") == 1, "one request for each connection"


def test_what_is_refused_reaches_a_client_that_sends_first() -> None:
    with served() as listener:
        assert status(raw(listener.port, POST + b"Content-Length: 5000000\r\n\r\n" + b"x" * 5_000_000)) == 413


def test_head_has_no_body() -> None:
    with served() as listener:
        assert raw(listener.port, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b"\r\n\r\n")


# -- many clients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("say", [b"", b"GET / HTTP/1.1\r\n"], ids=["silent", "half a head"])
def test_idle_connections_make_way(say: bytes) -> None:
    with served(QUICK._replace(head_seconds=60.0)) as listener, idle(listener.port, 200, say):
        assert status(raw(listener.port, get("/"))) == 200
        assert listener.open() <= 8
        assert len(listener.told) == 1 and "8 connections are open" in listener.told[0]


def test_what_is_being_answered_does_not_make_way() -> None:
    with (
        served(QUICK._replace(head_seconds=60.0)) as listener,
        socket.create_connection(("127.0.0.1", listener.port), timeout=30) as client,
    ):
        client.sendall(get("/wait"))
        until("it is worked on", lambda: listener.waiting == 1)
        with idle(listener.port, 200):
            assert status(raw(listener.port, get("/"))) == 200
            listener.go.set()
            assert status(client.recv(1000)) == 200


def test_when_all_are_being_answered_new_ones_wait() -> None:
    with served() as listener, contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            client.sendall(get("/wait"))
        until("all are worked on", lambda: listener.waiting == 8)
        late = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=30))
        late.sendall(get("/"))
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.recv(1)
        listener.go.set()
        late.settimeout(30)
        assert status(late.recv(1000)) == 200


class Failing(socket.socket):
    """A listening socket whose `accept` fails; `errors` come first, then it works."""

    def prepare(self, *errors: int) -> Failing:
        self.errors, self.calls = list(errors), 0
        self.bind(("127.0.0.1", 0))
        self.listen(100)
        return self

    def accept(self) -> Any:
        self.calls += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "as the system says it")
        return super().accept()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENETDOWN])
def test_an_overload_is_no_bug(code: int) -> None:
    listening = Failing().prepare(code, code)
    with served(listening=listening) as listener:
        began = time.monotonic()
        assert status(raw(listener.port, get("/"))) == 200
        assert time.monotonic() - began > 1.5, "accepting paused, twice"
        assert listening.calls <= 4 and len(listener.told) == 1 and "ulimit -n" in listener.told[0]


def test_a_connection_that_is_gone_before_it_is_accepted() -> None:
    with served(listening=Failing().prepare(*[errno.ECONNABORTED] * 20)) as listener:
        assert status(raw(listener.port, get("/"))) == 200 and listener.told == []


def test_a_bug_ends_one_request_and_is_told() -> None:
    with served() as listener:
        assert status(raw(listener.port, get("/bug"))) == 500
        until("it is told", lambda: listener.told)
        assert "a bug of ours" in listener.told[0]
        assert status(raw(listener.port, get("/full"))) == 503
        assert status(raw(listener.port, get("/"))) == 200 and len(listener.told) == 1


def test_closing_waits_for_what_is_being_answered_and_for_nothing_else() -> None:
    with contextlib.ExitStack() as stack:
        with served(QUICK._replace(stop_seconds=10.0, head_seconds=60.0)) as listener:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=30))
            client.sendall(get("/wait"))
            stack.enter_context(idle(listener.port, 3))
            until("it is worked on", lambda: listener.waiting == 1)
        assert status(client.recv(1000)) == 200
