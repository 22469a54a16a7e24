"""The APIs behind a real HTTP server: bodies that are too large, in the ways clients send them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from handlers.orders_api import create_app
from handlers.web import MAX_BODY
from tests.unit.example.support import FakePublisher


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(FakePublisher()), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def pieces(total: int) -> Iterator[bytes]:
    for _ in range(0, total, 50_000):
        yield b" " * 50_000


@pytest.mark.parametrize("size", [MAX_BODY + 1, 5 * MAX_BODY])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_too_much_sees_why(url: str, size: int, chunked: bool) -> None:
    content: bytes | Iterator[bytes] = pieces(size + 50_000) if chunked else b" " * size
    response = httpx.post(f"{url}/orders", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 413


def test_a_client_that_asks_first_need_not_send(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /orders HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            b"Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_an_order_goes_through(url: str) -> None:
    order = {"userId": "user-123", "amount": 99.99, "items": ["laptop"]}
    assert httpx.post(f"{url}/orders", json=order).status_code == 201
