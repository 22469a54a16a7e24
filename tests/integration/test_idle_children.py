"""Processes that run one event alone, and end between two events: the next event is not to blame."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event
from orchestrator.records import Record
from orchestrator.worker.isolation.quarantine import PythonChild
from orchestrator.worker.runners.command import Command
from orchestrator.worker.runners.exec import ExecChild
from tests.support.programs import each, program
from tests.support.worker import until

#: Answers one event and then ends by itself.
ONCE = "event = json.loads(requests.readline())\necho(event)\nsys.exit(int(event['value']['n'] == 2))"
WORK = "import os\ndef handle(event):\n    if event.value['n'] == 9:\n        os._exit(3)\n    return []\n"


def event(n: int) -> Event:
    return Event(Record("in", 0, n, 1_700_000_000_000, None, b'{"n": %d}' % n, ()), {"n": n})


def exec_child(argv: list[str]) -> ExecChild:
    return ExecChild(Handler("h", "exec", tuple(argv), "g", timeout=5.0), Command(tuple(argv), Path.cwd(), os.environ))


def gone(pid: int) -> None:
    until("it has ended", lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_a_program_that_ends_after_each_event() -> None:
    child = exec_child(program(ONCE))
    for n in range(4):
        assert isinstance(child.run(event(n)), list)
        assert child._program is not None
        gone(child._program.pid)
    child.close()


def test_a_program_that_cannot_be_started_again_is_away(tmp_path: Path) -> None:
    once = tmp_path / "once"
    child = exec_child(
        program(f"if os.path.exists({str(once)!r}): sys.exit(4)\nopen({str(once)!r}, 'w').close()\n{ONCE}")
    )
    assert isinstance(child.run(event(0)), list)
    assert child._program is not None
    gone(child._program.pid)
    answer = child.run(event(1))
    assert isinstance(answer, Failed) and answer.verdict == "unavailable" and "exit code 4" in answer.message
    child.close()


def test_a_program_that_read_the_event_is_its_victim() -> None:
    child = exec_child(each("sys.exit(3) if value['n'] == 1 else echo(event)"))
    assert isinstance(child.run(event(0)), list)
    answer = child.run(event(1))
    assert isinstance(answer, Failed) and answer.verdict == "crash"
    child.close()


def test_a_quarantine_that_was_killed_while_it_was_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work_of_mine.py").write_text(WORK)
    child = PythonChild(Handler("h", "python", "work_of_mine:handle", "g", timeout=5.0), tmp_path)
    assert child.run(event(0)) == []
    for _ in range(2):
        assert child._program is not None
        pid = child._program.pid
        os.kill(pid, signal.SIGKILL)
        gone(pid)
        assert child.run(event(1)) == []
    answer = child.run(event(9))
    assert isinstance(answer, Failed) and answer.verdict == "crash" and "exit code 3" in answer.message
    assert child.run(event(2)) == []
    child.close()
