"""The control socket."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import FindingsError, UsageError
from orchestrator.records import Finding
from orchestrator.serving import RequestRefused, Response
from orchestrator.supervisor.control.client import NoAnswer, ask
from orchestrator.supervisor.control.server import Query, serve


def with_server(path: Path, client: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What `client` returned while a server answered at `path`, and what the server was asked for."""
    asked: list[str] = []

    def down(query: Query) -> Response:
        if "not" in query:
            raise RequestRefused(int(query["not"][-1]), "no", "because")
        asked.append("down")
        return Response(202, {"stopping": True})

    async def run() -> Any:
        routes = {("GET", "/v1/ps"): lambda _: Response(200, {"handlers": ["é"]}), ("POST", "/v1/down"): down}
        async with serve(path, routes, asked.append):
            return await asyncio.to_thread(client)

    return asyncio.run(run()), asked


def raw(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(request)
        answer = b""
        while data := client.recv(65_536):
            answer += data
        return answer


def test_questions_and_answers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert with_server(path, lambda: ask(path, "GET", "/v1/ps?x=1"))[0] == {"handlers": ["é"]}
    (tmp_path / "s").unlink(missing_ok=True)
    assert with_server(path, lambda: ask(path, "POST", "/v1/down")) == ({"stopping": True}, ["down"])


def test_only_its_user_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0)
    try:
        mode = with_server(path, lambda: path.stat().st_mode)[0]
        after = os.umask(0)
    finally:
        os.umask(before)
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    assert after == 0, "the process's own mask is as it was"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/else HTTP/1.1\r\nHost: kpipe\r\n\r\n", b"404"),
        (b"GET /v1/down HTTP/1.1\r\nHost: kpipe\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\xff\xfe \x00\r\n\r\n", b"400"),
        (b"GET /v1/ps HTTP/1.1\r\nX: " + b"y" * 100_000, b"431"),
    ],
)
def test_what_it_does_not_know(tmp_path: Path, request_: bytes, status: bytes) -> None:
    path = tmp_path / "s"

    def client() -> bytes:
        try:
            return raw(path, request_)
        except (ConnectionResetError, BrokenPipeError):
            return b"HTTP/1.1 431"  # It hung up on a head without end before all of it was sent.

    answer, asked = with_server(path, client)
    assert answer.split()[1] == status and not asked


def test_a_client_that_hangs_up_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def client() -> Any:
        for request in (b"", b"GET /v1"):
            with socket.socket(socket.AF_UNIX) as hasty:
                hasty.connect(str(path))
                hasty.sendall(request)
        return ask(path, "GET", "/v1/ps")

    assert with_server(path, client)[0] == {"handlers": ["é"]}


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer):
        ask(tmp_path / "nothing", "GET", "/v1/ps")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NoAnswer):
        ask(tmp_path / "dead", "GET", "/v1/ps")


@pytest.mark.parametrize("code", [409, 422])
def test_what_cannot_be_done_is_a_mistake_of_the_caller(tmp_path: Path, code: int) -> None:
    path = tmp_path / "s"

    def client() -> tuple[str, str]:
        with pytest.raises(UsageError) as refused:
            ask(path, "POST", f"/v1/down?not=1&not={code}")
        return refused.value.message, refused.value.hint

    assert with_server(path, client) == (("no", "because"), [])


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def client() -> str:
        with pytest.raises(NoAnswer) as refused:
            ask(path, "GET", "/v1/nothing")
        return refused.value.message

    assert "/v1/nothing" in with_server(path, client)[0]


def test_findings_come_as_findings_and_a_slow_answer_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    finding = Finding("error", "schema", "a.json", 3, 1, "not JSON", "mend it")

    async def restart(_query: Query) -> Response:
        await asyncio.sleep(0.3)
        raise RequestRefused(422, "1 error in the pipeline file", "nothing was restarted", [asdict(finding)])

    def client() -> FindingsError:
        with pytest.raises(NoAnswer):
            ask(path, "POST", "/v1/restart", 0.1)
        with pytest.raises(FindingsError) as refused:
            ask(path, "POST", "/v1/restart")
        return refused.value

    async def run() -> FindingsError:
        async with serve(path, {("POST", "/v1/restart"): restart}, print):
            return await asyncio.to_thread(client)

    error = asyncio.run(run())
    assert error.findings == (finding,) and error.hint == "nothing was restarted"
