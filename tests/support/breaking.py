"""An HTTP endpoint on bare sockets that ends its connections as it is told to."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

GOOD = b"HTTP/1.1 204 No Content\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)


class Act(NamedTuple):
    """What becomes of one request: `says` is written, and after `wait` seconds the connection ends.

    `unread`: its request is not even read. `wait` None: the connection stays.
    """

    says: bytes = GOOD
    end: Literal["close", "reset"] = "close"
    wait: float | None = None
    unread: bool = False


STAYS = Act()


@dataclass
class Breaking:
    """`requests` has, for each that was read, the number of its connection and its own on that, both from 0."""

    port: int
    scheme: str
    decide: Callable[[int, int], Act]
    requests: list[tuple[int, int]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/events"


@contextmanager
def breaking(decide: Callable[[int, int], Act], tls: ssl.SSLContext | None = None) -> Iterator[Breaking]:
    """A server that runs in the block. `decide` is asked, with those two numbers, before each request is read."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    here = Breaking(listening.getsockname()[1], "https" if tls else "http", decide)

    def accept() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                number, here.connections = here.connections, here.connections + 1
                threading.Thread(target=serve, args=(plain, number), daemon=True).start()

    def serve(plain: socket.socket, number: int) -> None:
        with suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk(tls.wrap_socket(plain, server_side=True) if tls else plain, number)

    def talk(stream: socket.socket, number: int) -> None:
        count, unread = 0, b""
        while True:
            act = here.decide(number, count)
            if act.unread:
                socket.socket.recv(stream, 1, socket.MSG_PEEK)  # what came, below TLS as well
            elif (read := _request(stream, unread)) is None:
                break
            else:
                body, unread = read
                here.requests.append((number, count))
                here.bodies.append(body)
                stream.sendall(act.says)
            count += 1
            if act.wait is not None or act.unread:
                time.sleep(act.wait or 0.0)
                if act.end == "reset":
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                break
        stream.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield here
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _request(stream: socket.socket, data: bytes) -> tuple[bytes, bytes] | None:
    """The body of the next request, and what was read beyond it; None at the end."""
    while b"\r\n\r\n" not in data:
        if not (more := stream.recv(65_536)):
            return None
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", b"0"))
    while len(rest) < length:
        if not (more := stream.recv(65_536)):
            return None
        rest += more
    return rest[:length], rest[length:]
