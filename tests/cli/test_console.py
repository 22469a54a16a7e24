"""The terminal of `kpipe up`, with pipes in the place of stdout and stderr."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
from orchestrator.cli.render import terminal
from orchestrator.supervisor.logs.lines import Line
gone = threading.Event()
terminal.PATIENCE = 0.5
shown = terminal.UpTerminal(["a", "longer-name"], gone.set, room=100_000)
"""


def run(code: str, **streams: object) -> subprocess.CompletedProcess[str]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([sys.executable, "-c", PROGRAM + code], text=True, timeout=30, **given)  # type: ignore[call-overload,no-any-return]


def test_prefixes_are_aligned_and_streams_apart() -> None:
    done = run(
        'shown.lines("a", [Line("one"), Line("two", partial=True)]); shown.say("hello\\nworld \\x1b[2J")\n'
        'shown.lines("longer-name", [Line("three")]); shown.close()'
    )
    assert done.stdout == "a           | one\na           | two …\nlonger-name | three\n"
    assert done.stderr == "kpipe       | hello\nkpipe       | world \\x1b[2J\n"


def test_one_order_where_both_are_the_same_file() -> None:
    code = 'for n in range(200): shown.lines("a", [Line(str(n))]); shown.say(str(n))\nshown.close()'
    done = run(code, stderr=subprocess.STDOUT)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [str(n) for n in range(200) for _ in "12"]


def test_a_reader_that_hung_up_is_told() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        code = 'shown.lines("a", [Line("x")]); sys.exit(0 if gone.wait(5) else 1)'
        assert run(code, stdout=writing).returncode == 0
    finally:
        os.close(writing)


def test_a_reader_that_is_stuck_costs_lines_but_no_time() -> None:
    reading, writing = os.pipe()
    try:
        code = """
for n in range(10_000): shown.lines("a", [Line("x" * 100)])
shown.say("still here")
shown.close()
"""
        began = time.monotonic()
        done = run(code, stdout=writing)
        assert time.monotonic() - began < 10 and done.returncode == 0
        assert "still here" in done.stderr and "lines are not shown here" in done.stderr
    finally:
        os.close(reading)
        os.close(writing)


def test_a_slow_reader_gets_everything_that_has_room() -> None:
    reading, writing = os.pipe()
    code = 'for n in range(900): shown.lines("a", [Line("x" * 80 + str(n))])\nshown.close()'
    process = subprocess.Popen([sys.executable, "-c", PROGRAM + code], stdout=writing)
    os.close(writing)
    read = b""
    while data := os.read(reading, 1000):
        read += data
        time.sleep(0.001)
    os.close(reading)
    assert process.wait(10) == 0
    assert [int(line[94:]) for line in read.decode().splitlines()] == list(range(900))


def test_a_non_blocking_stdout_is_written_all_the_same() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    code = 'shown.lines("a", [Line("x" * 1000)] * 90); shown.close()'
    process = subprocess.Popen([sys.executable, "-c", PROGRAM + code], stdout=writing)
    os.close(writing)
    read = b""
    while data := os.read(reading, 4096):
        read += data
    os.close(reading)
    assert process.wait(10) == 0 and read.count(b"\n") == 90


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_no_colour_but_on_a_terminal_that_wants_it(tmp_path: Path, name: str) -> None:
    import pty

    main, side = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    env[name] = {"NO_COLOR": "1", "TERM": "dumb"}[name]
    code = 'shown.lines("a", [Line("plain")]); shown.close()'
    subprocess.run([sys.executable, "-c", PROGRAM + code], stdout=side, stderr=side, env=env, check=True, timeout=30)
    assert os.read(main, 1000) == b"a           | plain\r\n"
    os.close(side)
    os.close(main)
