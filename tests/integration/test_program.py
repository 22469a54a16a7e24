"""A real child process that speaks lines on fd 3 and 4."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import HandlerError
from orchestrator.worker.runners.child_program import Program
from tests.support.worker import until

ECHO = """
    import os
    with os.fdopen(3) as requests, os.fdopen(4, "w") as replies:
        for line in requests:
            print("answer", line.strip(), file=replies, flush=True)
"""


@contextmanager
def running(code: str, **options: int) -> Iterator[Program]:
    program = Program([sys.executable, "-c", textwrap.dedent(code)], Path.cwd(), os.environ, **options)
    try:
        yield program
    finally:
        program.kill()
        program.wait()


def lines(program: Program, many: int) -> list[bytes]:
    got: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(got) < many and not program.closed and time.monotonic() < deadline:
        got += program.exchange(1.0)
    return got


def test_lines_go_in_and_out_in_order() -> None:
    with running(ECHO) as program:
        for n in range(1_000):
            program.send(b"%d\n" % n)
        assert lines(program, 1_000) == [b"answer %d" % n for n in range(1_000)]


def test_more_than_the_pipes_hold_in_both_directions_does_not_block() -> None:
    big = b"x" * 300_000
    with running(ECHO) as program:
        for _ in range(20):
            program.send(big + b"\n")
        assert [len(line) for line in lines(program, 20)] == [300_007] * 20


def test_an_end_is_told_with_its_last_words() -> None:
    with running("import os, sys; print('so long', file=sys.stderr); sys.stderr.flush(); os._exit(3)") as program:
        assert lines(program, 1) == []
        assert program.closed
        end = program.wait()
        assert (end.code, end.signal, end.text) == (3, None, "exit code 3")
        assert end.stderr == "so long"


def test_a_signal_is_told_by_its_name() -> None:
    with running("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") as program:
        assert lines(program, 1) == []
        assert program.wait().text == "signal SIGSEGV"


def test_kill_ends_all_that_it_started() -> None:
    code = """
        import os, subprocess
        child = subprocess.Popen(["sleep", "300"])
        os.write(4, b"%d\\n" % child.pid)
        child.wait()
    """
    with running(code) as program:
        (told,) = lines(program, 1)
        program.kill()
        program.wait()
        until("its child is gone too", lambda: not psutil.pid_exists(int(told)))


def test_a_line_that_never_ends_is_garbage() -> None:
    code = "import os\nwhile True: os.write(4, b'x' * 65536)"
    with running(code, longest=1_000_000) as program:
        assert lines(program, 1) == []
        assert "more than 1000000 bytes" in program.garbage


def test_wake_ends_a_wait() -> None:
    with running(ECHO) as program:
        program.wake()
        began = time.monotonic()
        assert program.exchange(20.0) == []
        assert time.monotonic() - began < 10


def test_no_such_program() -> None:
    with pytest.raises(HandlerError, match="no-such-program' was not found"):
        Program(["no-such-program"], Path.cwd(), os.environ)
