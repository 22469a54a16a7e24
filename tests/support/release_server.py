"""A place on loopback that serves a Kafka release, well or badly."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from orchestrator.brokers.install import pins

Mood = Literal["well", "missing", "broken", "short", "hang", "drop"]

#: The jars that a fetched Kafka must have, and one more.
JARS = tuple(
    f"{name}-1.jar"
    for name in (f"kafka_{pins.SCALA}", "kafka-clients", "kafka-server", "log4j-core", pins.SLF4J_BINDING, "other")
)


def small_release(jars: tuple[str, ...] = JARS, *, padding: int = 200_000) -> bytes:
    """An archive in the form of the official one: small jars, and things that do not belong into the cache."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for jar in jars:
            _add(tar, f"{pins.NAME}/libs/{jar}", _jar(padding))
        _add(tar, f"{pins.NAME}/bin/kafka-server-start.sh", b"#!/bin/sh\n")
        _add(tar, "../outside.jar", b"no")
        _add(tar, f"{pins.NAME}/libs/../../up.jar", b"no")
        link = tarfile.TarInfo(f"{pins.NAME}/libs/link.jar")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return gzip.compress(packed.getvalue(), 1)


def sha512(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()


class ReleaseServer:
    """`url` is a release base. `mood` may change at any time; `asked` counts requests for the archive."""

    def __init__(self, data: bytes, url: str) -> None:
        self.data = data
        self.url = url
        self.mood: Mood = "well"
        self.asked = 0
        #: Set once half of the archive is sent in the mood "hang"; `go_on` lets the rest follow.
        self.halfway = threading.Event()
        self.go_on = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        if self.mood in ("missing", "broken") or not request.path.endswith(f"/{pins.VERSION}/{pins.ARCHIVE}"):
            request.send_error(500 if self.mood == "broken" else 404)
            return
        half = len(self.data) // 2
        request.send_response(200)
        request.send_header("Content-Length", str(len(self.data)))
        request.end_headers()
        request.wfile.write(self.data[:half])
        if self.mood == "hang":
            request.wfile.flush()
            self.halfway.set()
            self.go_on.wait(60)
        if self.mood != "short":
            request.wfile.write(self.data[half:])


@contextmanager
def serving(data: bytes) -> Iterator[ReleaseServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                made.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client was killed: that is what some tests are about

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = ReleaseServer(data, f"http://127.0.0.1:{server.server_address[1]}/kafka")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.go_on.set()
            server.shutdown()


def _jar(padding: int) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as jar:
        jar.writestr("padding", bytes((7 * at * at) % 251 for at in range(padding)))
    return data.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
