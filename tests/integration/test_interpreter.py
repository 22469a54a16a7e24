"""`interpreter:`: a Python function under another Python, which has its own packages and none of kpipe's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import Handler
from orchestrator.contracts.headers import given
from orchestrator.delivery.outcome import Failed
from orchestrator.errors import HandlerError
from orchestrator.event import Emit, Event
from orchestrator.records import Record
from orchestrator.worker.runners.interpreter import load_foreign
from tests.support.worker import Project

CODE = """
import asyncio, os, sys, time
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import onlythere
from orchestrator import Emit, Event, Reject, Retry, Unavailable

class Away(Exception): ...

def handle(event):
    do = event.value["do"] if event.value else "tombstone"
    if do == "crash":
        os._exit(9)
    if do == "reject":
        raise Reject("no")
    if do == "retry":
        raise Retry("later", after=2)
    if do == "away":
        raise Away("gone")
    if do == "connection":
        raise ConnectionRefusedError("refused")
    if do == "key":
        raise ValueError(event.key)
    if do == "name":
        return Emit("out", {}, headers={"\\ud800": "v"})
    if do == "pass on":
        return Emit("out", {}, headers=event.headers)
    if do == "type":
        return 5
    if do == "nan":
        return Emit("out", float("nan"))
    value = {"python": sys.prefix, "there": onlythere.NAME, "raw": (event.raw or b"").decode(), "key": event.key,
             "id": event.id, "amount": Decimal("1.10"), "uuid": UUID(int=1), "at": datetime(2026, 1, 1, tzinfo=UTC)}
    return [Emit("out", value, key=b"\\xff", headers={"h": b"\\xfe", "g": "x"}), Emit("out", None, key="k")]

together = 0

async def meet(event):
    global together
    together += 1
    while together < 4:
        await asyncio.sleep(0.001)
    return None

def meet_in_threads(event):
    global together
    together += 1
    while together < 4:
        time.sleep(0.001)

async def later(event):
    return Emit("out", {"n": event.attempt})
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without any package but one."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "onlythere.py").write_text("NAME = 'there'")
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code_of_mine.py").write_text(CODE)
    return tmp_path


def handler(python: Path | str, target: str = "code_of_mine:handle", **options: Any) -> Handler:
    interpreter = str(python / "bin" / "python") if isinstance(python, Path) else python
    return Handler("h", "python", target, "g", interpreter=interpreter, timeout=10.0, **options)


def event(raw: bytes | None, key: bytes | None = b"k") -> Event:
    record = Record("in", 0, 1, 1_700_000_000_000, key, raw, (("h", b"\xff"),))
    return Event(record, None if raw is None else json.loads(raw), attempt=2)


def test_it_gets_and_gives_what_others_do(python: Path, code: Path) -> None:
    runner = load_foreign(handler(python), code)
    raw = b'{"do": "it", "eventId": "e-1", "n": 1.50, "s": ",\\"value\\":"}'
    emits = runner.run(event(raw))
    runner.close()
    assert isinstance(emits, list)
    first, second = emits
    assert first.value == {
        "python": str(python), "there": "there", "raw": raw.decode(), "key": "k", "id": "e-1", "amount": 1.1,
        "uuid": "00000000-0000-0000-0000-000000000001", "at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    assert (first.key, first.headers) == (b"\xff", [("h", b"\xfe"), ("g", "x")])
    assert (second.value, second.key) == (None, "k")


def test_it_passes_headers_on_as_they_are(python: Path, code: Path) -> None:
    headers = (("caf\udce9", b"\xff"), ("caf\u00e9", b"x"), ("", None))
    record = event(b'{"do": "pass on"}')._record._replace(headers=headers)
    runner = load_foreign(handler(python), code)
    emits = runner.run(Event(record, {"do": "pass on"}))
    runner.close()
    assert isinstance(emits, list) and given(emits[0].headers) == headers


def test_its_command_says_nothing_about_the_handler(python: Path, code: Path) -> None:
    """The words of a process are everybody's to read, and the handler's options may come from the environment."""
    runner = load_foreign(handler(python, unavailable=("code_of_mine:Away",)), code)
    runner.close()
    assert "code_of_mine" not in " ".join(runner._command.argv)


@pytest.mark.parametrize(
    ("do", "verdict", "said"),
    [
        ("reject", "reject", "no"),
        ("retry", "retry", "later"),
        ("away", "unavailable", "gone"),
        ("connection", "unavailable", "refused"),
        ("key", "retry", "\\udcff"),
        ("name", "reject", "not valid Unicode"),
        ("type", "reject", "the handler returned int"),
        ("nan", "reject", "no JSON form"),
        ("crash", "crash", "exit code 9"),
    ],
)
def test_what_it_raises_is_the_outcome(python: Path, code: Path, do: str, verdict: str, said: str) -> None:
    runner = load_foreign(handler(python, unavailable=("code_of_mine:Away",)), code)
    failed = runner.run(event(json.dumps({"do": do}).encode(), b"\xff"))
    runner.close()
    assert isinstance(failed, Failed) and failed.verdict == verdict and said in failed.message
    if do == "retry":
        assert failed.after == 2.0
    if do == "connection":
        assert failed.error_type == "ConnectionRefusedError" and "code_of_mine.py" in failed.stack


def test_async_functions(python: Path, code: Path) -> None:
    runner = load_foreign(handler(python, "code_of_mine:later"), code)
    emits = runner.run(event(b"{}"))
    runner.close()
    assert isinstance(emits, list) and isinstance(emits[0], Emit) and emits[0].value == {"n": 2}


@pytest.mark.parametrize("function", ["meet", "meet_in_threads"])
def test_many_at_once(python: Path, code: Path, function: str) -> None:
    pool = load_foreign(handler(python, f"code_of_mine:{function}", concurrency=4), code).pool(lambda: None)
    for n in range(4):
        pool.start(event(b"{}"), n)
    assert sorted(pool.answers.get(timeout=10) for _ in range(4)) == [(n, []) for n in range(4)]
    pool.close()


@pytest.mark.parametrize(
    ("interpreter", "target", "said"),
    [
        ("./no-python", "code_of_mine:handle", "`interpreter: ./no-python` cannot be run: No such file"),
        ("/bin/false", "code_of_mine:handle", "is no Python"),
        (None, "nowhere:handle", "No module named 'nowhere'"),
        (None, "code_of_mine:nothing", "has no attribute 'nothing'"),
    ],
)
def test_what_cannot_start_says_why(python: Path, code: Path, interpreter: str | None, target: str, said: str) -> None:
    with pytest.raises(HandlerError) as refused:
        load_foreign(handler(interpreter or python, target), code)
    assert said in refused.value.message


@pytest.mark.kafka
def test_on_kafka(python: Path, code: Path, kafka: str) -> None:
    yaml = f"""
    pipeline: test
    topics:
      in: {{key: k, dlq: in.dlq}}
      out: {{dlq: out.dlq}}
    handlers:
      h:
        python: code_of_mine:handle
        interpreter: {python}/bin/python
        consumes: [in]
        produces: [out]
    """
    project = Project(code, kafka, yaml)
    project.send("in", [{"k": f"k{n}", "do": "crash" if n == 7 else "it"} for n in range(30)])
    with project.worker("h") as worker:
        counts = worker.wait_settled(30)
    assert (counts["done"], counts["dead_lettered"]) == (29, 1), worker.log
    raws = [record.value for record in project.read("out") if record.value]
    assert len(raws) == 29 and all(b'"amount":1.1' in raw for raw in raws)
