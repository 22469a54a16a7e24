"""However the supervisor or a shim dies, nothing that they started lives on."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import IO

import psutil
import pytest

from orchestrator.supervisor import events
from orchestrator.supervisor.ending import Ending
from orchestrator.supervisor.policy import State
from orchestrator.supervisor.supervisor import Supervisor
from tests.support.supervised import Heard, marked, python, separate, spec, supervise, until, wait_until

GONE_WITHIN = 2.0

PLAIN = "print('up', flush=True)\nimport time; time.sleep(600)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PLAIN


def family(*, detached: bool, mark: str = "sys.argv[1]") -> str:
    """A child that is deaf to SIGTERM, with a deaf child of its own (in a session of its own, if `detached`)."""
    return f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    if {detached}:
        os.setsid()
        if os.fork() != 0: os._exit(0)
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", {DEAF!r}, {mark}])
print('up', flush=True)
time.sleep(600)
"""


def read_until(stream: IO[str], line: str, times: int = 1) -> None:
    while times:
        said = stream.readline()
        assert said, f"it ended before it said {line!r}"
        times -= said.strip() == line


@pytest.mark.parametrize(
    "detached",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper"))],
)
def test_nothing_is_left_two_seconds_after_the_supervisor_was_killed(tmp_path: Path, detached: bool) -> None:
    mark = secrets.token_hex(8)
    specs = [
        spec("plain", [*python(PLAIN), mark], tmp_path),
        spec("deaf", [*python(DEAF), mark], tmp_path, signal_group=False),
        spec("family", [*python(family(detached=detached)), mark], tmp_path),
        spec(
            "shell",
            ["sh", "-c", f'{sys.executable} -I -S -u -c "{PLAIN.replace(chr(10), ";")}" {mark}; true'],
            tmp_path,
        ),
    ]
    with separate(tmp_path, specs) as supervisor:
        assert supervisor.stdout is not None
        for _ in range(5):
            assert supervisor.stdout.readline().endswith(" up\n")
        before = marked(mark)
        assert len(before) == 4 + 4 + 2, "four shims, four programs, two helpers"
        supervisor.kill()
        supervisor.wait()
        killed = time.monotonic()
        wait_until("nothing left", lambda: not marked(mark), GONE_WITHIN)
        assert time.monotonic() - killed < GONE_WITHIN


def test_a_frozen_supervisor_can_be_killed_as_well(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    with separate(tmp_path, [spec("plain", [*python(PLAIN), mark], tmp_path)]) as supervisor:
        assert supervisor.stdout is not None
        read_until(supervisor.stdout, "plain up")
        supervisor.send_signal(signal.SIGSTOP)
        supervisor.kill()
        supervisor.wait()
        wait_until("nothing left", lambda: not marked(mark), GONE_WITHIN)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_both_the_supervisor_and_the_shims_killed(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    with separate(tmp_path, [spec("deaf", [*python(DEAF), mark], tmp_path)]) as supervisor:
        assert supervisor.stdout is not None
        read_until(supervisor.stdout, "deaf up")
        supervisor.send_signal(signal.SIGSTOP)
        shims = [process for process in marked(mark) if "shim.py" in " ".join(process.cmdline())]
        assert len(shims) == 1
        shims[0].kill()
        supervisor.kill()
        supervisor.wait()
        wait_until("nothing left", lambda: not marked(mark), GONE_WITHIN)


def test_a_killed_shim_is_a_crash_and_leaves_nothing(tmp_path: Path) -> None:
    mark = secrets.token_hex(8)

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("family", [*python(family(detached=False)), mark], tmp_path)])
        await until("both up", lambda: heard.text("family") == ["up", "up"])
        keeper = supervisor.keepers[0]
        assert keeper.pid is not None
        shim = psutil.Process(keeper.pid).ppid()
        before = {p.pid for p in marked(mark)}
        assert len(before) == 3
        os.kill(shim, signal.SIGKILL)
        await until("restarted", lambda: keeper.life.restarts == 1 and keeper.life.state is State.READY)
        await until("the old ones are gone", lambda: not before & {p.pid for p in marked(mark)}, GONE_WITHIN)
        supervisor.stop(Ending(0, "asked"))
        supervisor.kill(Ending(0, "asked"))
        await supervisor.over()

    _, heard = supervise(tmp_path, story)
    assert heard.of("family", events.Crashed)
    assert not marked(mark)


@pytest.mark.parametrize(
    "detached",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper"))],
)
def test_what_a_crashed_handler_leaves_is_gone_before_its_restart(tmp_path: Path, detached: bool) -> None:
    mark = secrets.token_hex(8)
    code = family(detached=detached, mark="os.environ['MARK']").replace("time.sleep(600)\n", "", 1)
    once = f"""
import os, sys
flag = {str(tmp_path / "flag")!r}
if os.path.exists(flag):
    print('second', flush=True)
    import time; time.sleep(600)
open(flag, 'w').close()
{code}
time.sleep(0.3)
os._exit(9)
"""

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python(once), tmp_path, env={**os.environ, "MARK": mark})])
        await until("second life", lambda: "second" in heard.text("w"))
        assert not marked(mark), "the helper of the first life still runs"
        supervisor.stop(Ending(0, "asked"))
        await supervisor.over()

    supervise(tmp_path, story)


def test_a_program_that_signals_its_own_group_does_not_reach_the_shim(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(0, signal.SIGKILL)"

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python(code), tmp_path, restart=False)])
        await supervisor.over()

    _, heard = supervise(tmp_path, story)
    assert heard.of("w", events.GaveUp)[0].exit.signal == signal.SIGKILL


def test_sigterm_to_the_shim_is_passed_on(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python(PLAIN), tmp_path, restart=False)])
        await until("up", lambda: heard.lines)
        pid = supervisor.keepers[0].pid
        assert pid is not None
        os.kill(psutil.Process(pid).ppid(), signal.SIGTERM)
        await supervisor.over()

    _, heard = supervise(tmp_path, story)
    assert heard.of("w", events.GaveUp)[0].exit.signal == signal.SIGTERM


def test_children_get_no_pipe_that_is_not_theirs(tmp_path: Path) -> None:
    code = "import os; print(sorted(os.listdir('/dev/fd'), key=int), flush=True)\nimport time; time.sleep(600)"

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec(f"w{n}", python(code), tmp_path) for n in range(3)])
        await until("all listed", lambda: len(heard.lines) == 3)
        for _, _, line in heard.lines:
            assert line.text == "['0', '1', '2', '3']", "3 is listdir's own"

    supervise(tmp_path, story)


def test_signals_that_the_shell_ignores_reach_a_handler(tmp_path: Path) -> None:
    code = "import signal; print([signal.getsignal(s) == signal.SIG_DFL for s in (15, 1, signal.SIGPIPE)])"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def story(supervisor: Supervisor, heard: Heard) -> None:
            # Python itself ignores SIGPIPE when it starts: ask a program that does not.
            supervisor.start([spec("w", ["sh", "-c", "kill -PIPE $$; echo alive"], tmp_path, restart=False)])
            supervisor.start([spec("v", python(code.replace(", signal.SIGPIPE", "")), tmp_path, restart=False)])
            await supervisor.over()

        _, heard = supervise(tmp_path, story)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard.of("w", events.GaveUp)[0].exit.signal == signal.SIGPIPE
    assert heard.text("v") == ["[True, True]"]
