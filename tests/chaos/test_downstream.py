"""What a handler needs is away, or hangs, under load: no event is blamed, and the flow resumes by itself."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.scene import Scene
from tests.support.worker import until

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

#: How long it is away, and how many events come a second meanwhile.
SECONDS = float(os.environ.get("KPIPE_OUTAGE_SECONDS", "4"))
RATE = 500.0
#: One byte to the downstream and one back for every event, on a connection that is kept while it works.
SYNC = """
    import os, socket, time
    from orchestrator import Emit

    connection = None

    def work(event):
        global connection
        try:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", PORT), timeout=0.5)
            connection.sendall(b"?")
            if connection.recv(1) != b"!":
                raise ConnectionResetError("the downstream hung up")
        except BaseException:
            connection = None
            raise
        place = {"partition": event.partition, "offset": event.offset}
        return Emit("out", {**place, "at": time.time(), "pid": os.getpid()}, event.key)
"""
#: Without a timeout of its own it does not return: kpipe ends its process, and tries again in others.
FOR_GOOD = SYNC.replace("timeout=0.5", "timeout=None")
#: Without a timeout of its own: the handler's cancels it.
ASYNC = """
    import asyncio, os, time
    from orchestrator import Emit

    connection = None

    async def work(event):
        global connection
        try:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", PORT)
            connection[1].write(b"?")
            if await connection[0].read(1) != b"!":
                raise ConnectionResetError("the downstream hung up")
        except BaseException:
            connection = None
            raise
        place = {"partition": event.partition, "offset": event.offset}
        return Emit("out", {**place, "at": time.time(), "pid": os.getpid()}, event.key)
"""


class Downstream:
    """A TCP server that answers each byte; it can refuse connections, or accept them and say nothing."""

    def __init__(self) -> None:
        self.port = 0
        self._hangs = False
        self._connections: list[socket.socket] = []
        self.serve()

    def serve(self) -> None:
        self._hangs = False
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def refuse(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def hang(self, hangs: bool) -> None:
        self._hangs = hangs

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                self._connections.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while asked := connection.recv(4_096):
                while self._hangs:
                    time.sleep(0.01)
                connection.sendall(b"!" * len(asked))


@contextmanager
def away(downstream: Downstream, how: str) -> Iterator[None]:
    downstream.refuse() if how == "refuses" else downstream.hang(True)
    try:
        yield
    finally:
        downstream.serve() if how == "refuses" else downstream.hang(False)


@pytest.mark.parametrize(
    ("how", "code"),
    [("refuses", SYNC), ("hangs", SYNC), ("hangs", FOR_GOOD), ("hangs", ASYNC)],
    ids=["refuses", "hangs-sync", "hangs-for-good", "hangs-async"],
)
def test_an_outage_under_load_is_waited_for(tmp_path: Path, kafka: str, how: str, code: str) -> None:
    downstream = Downstream()
    # Each failure of one that hangs for good costs a process.
    failures = 2 if code is FOR_GOOD else 5
    breaker = f"{{failures: {failures}, wait: 200ms, max-wait: 1s}}"
    options = f", timeout: 1s, retry: {{attempts: 2, backoff: 50ms}}, breaker: {breaker}"
    scene = Scene(tmp_path, kafka, options=options, code=code.replace("PORT", str(downstream.port)))
    with scene.up() as up:
        with scene.load(RATE, seed=1, only_good=True) as load:
            until("the flow", lambda: (scene.work().get("accounting") or {}).get("done", 0) > RATE / 2)
            began = time.monotonic()
            with away(downstream, how):
                until("the breaker says so", lambda: "the breaker is open" in scene.log)
                opened = time.monotonic() - began
                time.sleep(max(0.0, SECONDS - opened))  # how long it is away, not a wait for a state
            back = time.monotonic()
            until("the flow again", lambda: "the breaker is closed again" in scene.log)
            resumed = time.monotonic() - back
            sent = load.stop()
        scene.wait_drained(120)
        scene.kpipe("down")
        assert up.wait(60) == 0, scene.log
    report = check(kafka, scene.topics, scene.group, {}, {})
    print(f"{how}: open after {opened:.1f} s, away {SECONDS:g} s, closed {resumed:.1f} s later; {report}")
    assert report.events == sent["acknowledged"] and not report.violations, report
    assert report.letters == 0 and (code is FOR_GOOD or report.duplicated == 0), report
