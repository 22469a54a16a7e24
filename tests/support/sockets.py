"""Clients that behave as no client should, and what they cost a process."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

#: Starts a program in which so many files may be open.
FEW_FILES = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")


def connect(address: int | Path, seconds: float = 30.0) -> socket.socket:
    """To a port on loopback, or to a Unix socket."""
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), timeout=seconds)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(seconds)
    client.connect(str(address))
    return client


def raw(address: int | Path, *pieces: bytes, pause: float = 0.0, seconds: float = 30.0) -> bytes:
    """All that is answered to these bytes until the server hangs up."""
    with connect(address, seconds) as client:
        with contextlib.suppress(ConnectionError):  # it need not read to the end what it refuses
            for piece in pieces:
                client.sendall(piece)
                time.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65_536):
                answer += data
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def get(path: str, host: str = "localhost") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """This process may open as many files as the system allows it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def idle(address: int | Path, count: int, say: bytes = b"") -> Iterator[Sequence[socket.socket]]:
    """So many connections that say this and nothing more. Those that are not taken at once wait in the kernel."""
    clients: list[socket.socket] = []
    with many_files(), contextlib.ExitStack() as stack:
        for _ in range(count):
            family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
            client = stack.enter_context(socket.socket(family))
            client.settimeout(0.05)
            with contextlib.suppress(OSError):
                client.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
                client.sendall(say)
            clients.append(client)
        yield clients


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def spare_files(pid: int, count: int) -> None:
    """From now on the process may open so many more files than it has (Linux)."""
    process = psutil.Process(pid)
    used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()) + 1
    process.rlimit(psutil.RLIMIT_NOFILE, (used + count, process.rlimit(psutil.RLIMIT_NOFILE)[1]))
