from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from orchestrator.supervisor import probe as probing
from orchestrator.supervisor.spec import ChildSpec, Probe


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STARTING_PAUSE", "READY_PAUSE", "ALIVE_AFTER"):
        monkeypatch.setattr(probing, name, 0.01)
    monkeypatch.setattr(probing, "PATIENCE", 0.2)


def told_while(answers: list[bytes], probe_path: str | None, changes: int) -> list[bool]:
    """What a watched server that gives these answers, then the last one for ever, is said to be."""

    async def run() -> list[bool]:
        left = list(answers)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4096)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            writer.close()

        told: list[bool] = []
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        watching = asyncio.create_task(probing.watch(Probe(port=port, path=probe_path), told.append))
        async with asyncio.timeout(10):
            while len(told) < changes:
                await asyncio.sleep(0.01)
        watching.cancel()
        server.close()
        return told

    return asyncio.run(run())


OK, NO = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n"


def test_2xx_is_ready_and_nothing_else() -> None:
    assert told_while([NO, b"HTTP/1.1 301 Moved\r\n\r\n", b"junk\n", b"", b"\n", OK], "/", 1) == [True]


def test_a_single_miss_is_none_and_three_are() -> None:
    assert told_while([OK, NO, OK, NO, NO, OK, NO, NO, NO, OK], "/", 3) == [True, False, True]


def test_a_port_that_accepts_is_enough_without_a_path() -> None:
    assert told_while([b"not http at all"], None, 1) == [True]


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert not asyncio.run(probing.passes(Probe(port=port, path="/")))


def test_one_that_accepts_and_says_nothing_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not asyncio.run(probing.passes(Probe(port=silent.getsockname()[1], path="/")))


def test_a_check_is_asked_until_it_says_yes_and_then_no_more() -> None:
    asked: list[bool] = []

    def check() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    told: list[bool] = []
    asyncio.run(probing.watch(Probe(check=check), told.append))
    assert (asked, told) == ([False, False, True], [True])


def test_what_it_waits_for_in_words() -> None:
    def words(**more: object) -> str:
        return ChildSpec("x", (), Path(), {}, **more).readiness  # type: ignore[arg-type]

    assert words(reports=True) == "it has joined its consumer group"
    assert words(probe=Probe(port=80)) == "it accepts connections on port 80"
    assert words(probe=Probe(port=80, path="/up")) == "http://localhost:80/up answers 2xx"
    assert words(probe=Probe(check=lambda: True)) == "it answers"
