"""What children print: all of it arrives, on disk and at the one who shows it, whatever they print."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.supervisor import events
from orchestrator.supervisor.ending import Ending
from orchestrator.supervisor.policy import State
from orchestrator.supervisor.supervisor import Supervisor
from tests.support.supervised import Heard, python, spec, supervise, until


def logged(folder: Path, name: str) -> list[str]:
    """The texts of a child's log in order, older files first; pieces are put together again."""
    files = sorted((folder / "logs").glob(f"{name}.log*"), key=lambda p: p.name, reverse=True)
    whole, part = [], ""
    for file in files:
        for line in file.read_text().splitlines():
            _time, _stream, tag, text = line.split(" ", 3)
            part += text
            if tag == "F":
                whole.append(part)
                part = ""
    return whole


def run_once(tmp_path: Path, code: str) -> Heard:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("loud", python(code), tmp_path, restart=False)])
        await supervisor.over()

    return supervise(tmp_path, story, seconds=60)[1]


def test_a_hundred_thousand_lines_and_the_last_words_before_a_crash(tmp_path: Path) -> None:
    code = """
import os
with open(1, "w", buffering=65_536, closefd=False) as out:
    for n in range(100_000):
        print("line", n, "." * 60, file=out)
    out.write("last words")
os.abort()
"""
    heard = run_once(tmp_path, code)
    expected = [f"line {n} {'.' * 60}" for n in range(100_000)] + ["last words"]
    assert heard.text("loud") == expected
    assert logged(tmp_path, "loud") == expected
    assert heard.of("loud", events.GaveUp)[0].exit.signal == 6


def test_a_huge_line_arrives_in_marked_pieces(tmp_path: Path) -> None:
    heard = run_once(
        tmp_path, "import os; data = b'x' * 5_000_000 + b'\\nend\\n'\nwhile data: data = data[os.write(1, data):]"
    )
    pieces = [line for _, _, line in heard.lines]
    assert sum(len(piece.text) for piece in pieces[:-1]) == 5_000_000
    assert all(piece.partial for piece in pieces[:-2]) and not pieces[-2].partial
    assert max(len(piece.text) for piece in pieces) == 65_536
    assert logged(tmp_path, "loud") == ["x" * 5_000_000, "end"]


def test_bytes_that_are_no_text_and_controls_are_escaped(tmp_path: Path) -> None:
    heard = run_once(tmp_path, r"import os; os.write(1, b'\xff\x1b[2Jred\nok\n'); os.write(2, b'\x00\n')")
    assert sorted(heard.text("loud")) == sorted(["\\xff\\x1b[2Jred", "ok", "\\x00"])
    assert {stream for _, stream, line in heard.lines if line.text == "\\x00"} == {"stderr"}
    assert b"\x1b" not in (tmp_path / "logs" / "loud.log").read_bytes()


def test_output_of_a_grandchild_that_outlives_its_parent_is_kept(tmp_path: Path) -> None:
    code = """
import os, time, signal
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: (print("told to stop", flush=True), os._exit(0)))
    print("grandchild", flush=True)
    time.sleep(600)
time.sleep(0.3)
"""
    assert run_once(tmp_path, code).text("loud") == ["grandchild", "told to stop"]


def test_a_silent_child_with_a_full_pipe_is_never_stuck(tmp_path: Path) -> None:
    """10 MB without a single line end, to stdout and stderr in turn."""
    code = """
import os
for n in range(160):
    data = b"y" * 65_536
    while data: data = data[os.write(1 + n % 2, data):]
"""
    heard = run_once(tmp_path, code)
    assert sum(len(line.text) for _, _, line in heard.lines) == 160 * 65_536


def test_logs_rotate_and_lose_nothing_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.supervisor.logs.files.LogFile.__init__.__defaults__", (1_000_000, 9))
    run_once(tmp_path, "import sys\nfor n in range(20_000): sys.stdout.write(f'number {n} {\"-\" * 50}\\n')")
    numbers = [int(text.split()[1]) for text in logged(tmp_path, "loud")]
    assert len(list((tmp_path / "logs").iterdir())) == 3
    assert numbers == list(range(20_000))


def test_a_log_that_cannot_be_written_is_told_once_and_the_output_is_still_shown(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    heard = run_once(tmp_path, "import time\nfor n in range(5): print(n, flush=True); time.sleep(0.02)")
    assert heard.text("loud") == ["0", "1", "2", "3", "4"]
    assert len(heard.of("loud", events.LogTrouble)) == 1


def test_a_restart_goes_on_in_the_same_log(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python("print('hello'); raise SystemExit(1)"), tmp_path)])
        await until("gave up", lambda: supervisor.keepers[0].life.state is State.CRASH_LOOP)
        supervisor.stop(Ending(0, "asked"))
        await supervisor.over()

    supervise(tmp_path, story)
    assert logged(tmp_path, "w") == ["hello"] * 5
