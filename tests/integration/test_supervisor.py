"""The supervisor over real processes: starts, readiness, restarts, stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from orchestrator.supervisor import events
from orchestrator.supervisor.ending import Ending
from orchestrator.supervisor.policy import Rules, State
from orchestrator.supervisor.spec import ChildExit, Probe
from orchestrator.supervisor.supervisor import Supervisor
from tests.support.supervised import FAST, Heard, python, spec, supervise, until

SLEEP = "import time; time.sleep(600)"
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True: signal.pause()
"""
DOWN = Ending(0, "asked")

#: Says what the worker protocol says: ready, numbers, and at SIGTERM the last numbers.
WORKER = """
import json, os, signal, sys
status = int(os.environ["KPIPE_STATUS_FD"])
config = json.loads(os.fdopen(int(os.environ["KPIPE_CONFIG_FD"]), "rb").read())
def say(**what):
    os.write(status, json.dumps(what).encode() + b"\\n")
def numbers(done):
    counts = {"in": done, "done": done, "dead_lettered": 0, "skipped": 0, "in_flight": 0}
    say(type="status", accounting=counts, lag=3, paused=0, last_error="oops")
def stop(*_):
    numbers(config["count"])
    print("drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("size", len(config["padding"]), flush=True)
say(type="ready", partitions=[])
numbers(1)
while True:
    signal.pause()
"""


def state_of(supervisor: Supervisor, name: str) -> State:
    return next(k.life.state for k in supervisor.keepers if k.spec.name == name)


def test_a_worker_gets_its_configuration_and_is_ready_when_it_says_so(tmp_path: Path) -> None:
    # More than a pipe holds, to a child that reads it late.
    config = json.dumps({"count": 7, "padding": "x" * 1_000_000}).encode()

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("payments", python(WORKER), tmp_path, config=config, reports=True)])
        assert await supervisor.settled()
        keeper = supervisor.keepers[0]
        await until("numbers", lambda: keeper.status.accounting)
        assert keeper.status.lag == 3 and keeper.status.last_error == "oops"
        supervisor.stop(DOWN)
        await supervisor.over()
        assert keeper.status.accounting is not None and keeper.status.accounting["done"] == 7

    supervisor, heard = supervise(tmp_path, story)
    assert supervisor.code == 0
    assert heard.text("payments") == ["size 1000000", "drained"]
    assert heard.of("payments", events.Stopped)[0].exit == ChildExit(code=0)


def test_a_worker_that_reports_a_failed_start_is_not_started_again(tmp_path: Path) -> None:
    code = """
import json, os, sys
os.write(int(os.environ["KPIPE_STATUS_FD"]), json.dumps(
    {"type": "failed-to-start", "message": "there is no module handlers.x", "hint": "look"}).encode() + b"\\n")
sys.exit(78)
"""

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("bad", python(code), tmp_path, reports=True), spec("good", python(SLEEP), tmp_path)])
        assert not await supervisor.settled()
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story)
    assert supervisor.code == 5
    assert heard.of("bad", events.CouldNotStart)[0].refusal.message == "there is no module handlers.x"
    assert len(heard.of("bad", events.Started)) == 1
    assert state_of(supervisor, "good") is State.STOPPED


@pytest.mark.parametrize(
    ("argv", "said"),
    [(["no-such-command-here"], "'no-such-command-here' was not found"), (["/etc/passwd"], "Permission denied")],
)
def test_a_command_that_cannot_run(tmp_path: Path, argv: list[str], said: str) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("api", argv, tmp_path)])
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story)
    assert supervisor.code == 5
    assert said in heard.of("api", events.CouldNotStart)[0].text()
    assert not heard.of("api", events.Started)


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("api", python(SLEEP), tmp_path / "gone")])
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story)
    assert supervisor.code == 5
    assert str(tmp_path / "gone") in heard.of("api", events.CouldNotStart)[0].text()


def test_a_port_in_use_names_the_port_the_handler_and_the_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        async def story(supervisor: Supervisor, heard: Heard) -> None:
            supervisor.start([spec("api", python(SLEEP), tmp_path, port=port, probe=Probe(port=port))])
            await supervisor.over()

        supervisor, heard = supervise(tmp_path, story)
    said = heard.of("api", events.CouldNotStart)[0].text()
    assert f"port {port} of api is already in use" in said and f"process {os.getpid()}" in said
    assert supervisor.code == 5 and not heard.of("api", events.Started)


def test_a_crash_loop_rests_and_the_others_run_on(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        bad = python("import sys; print('boom', file=sys.stderr); sys.exit(3)")
        supervisor.start([spec("bad", bad, tmp_path), spec("good", python(SLEEP), tmp_path)])
        await until("crash loop", lambda: state_of(supervisor, "bad") is State.CRASH_LOOP)
        assert not await supervisor.settled()
        assert state_of(supervisor, "good") is State.READY and supervisor.stopping is None
        supervisor.stop(DOWN)
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story)
    assert supervisor.code == 5, "a failed handler is never reported as 0"
    assert len(heard.of("bad", events.Started)) == 5
    crash = heard.of("bad", events.Crashed)
    assert [c.exit for c in crash] == [ChildExit(code=3)] * 4 and crash[0].last_words == "boom"
    assert heard.of("bad", events.GaveUp)[0].failures == 5


def test_an_essential_handler_that_failed_ends_everything(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start(
            [
                spec("bad", python("raise SystemExit(3)"), tmp_path, essential=True, restart=False),
                spec("good", python(SLEEP), tmp_path),
            ]
        )
        assert (await supervisor.asked_to_stop()).code == 5
        await supervisor.over()

    supervisor, _ = supervise(tmp_path, story)
    assert supervisor.code == 5
    assert (state_of(supervisor, "bad"), state_of(supervisor, "good")) == (State.FAILED, State.STOPPED)


def test_nothing_left_running_ends_with_5_and_everything_done_with_0(tmp_path: Path) -> None:
    async def failed(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start(
            [
                spec("one", python("raise SystemExit(1)"), tmp_path, restart=False),
                spec("two", python("pass"), tmp_path, restart=False),
                spec("ground", python(SLEEP), tmp_path, stage=0),
            ]
        )
        await supervisor.over()

    async def done(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec(name, python("pass"), tmp_path, restart=False) for name in ("one", "two")])
        await supervisor.over()

    assert supervise(tmp_path, failed)[0].code == 5
    assert supervise(tmp_path, done)[0].code == 0


def test_the_exit_status_is_told_precisely(tmp_path: Path) -> None:
    ends = {
        "code": ("raise SystemExit(143)", ChildExit(code=143)),
        "signal": ("import os; os.kill(os.getpid(), 15)", ChildExit(signal=15)),
    }

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec(name, python(code), tmp_path, restart=False) for name, (code, _) in ends.items()])
        await supervisor.over()

    _, heard = supervise(tmp_path, story)
    for name, (_, exit) in ends.items():
        assert heard.of(name, events.GaveUp)[0].exit == exit


def test_stages_stop_one_after_the_other_and_a_stop_does_not_wait_for_a_backoff(tmp_path: Path) -> None:
    code = """
import signal, sys, time
def stop(*_):
    print("stopping", flush=True)
    time.sleep(0.2)
    print("stopped", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
while True: signal.pause()
"""

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        names = [("source", 3), ("worker", 2), ("sink", 1), ("broker", 0)]
        supervisor.start([spec(name, python(code), tmp_path, stage=stage) for name, stage in names])
        supervisor.start([spec("restless", python("raise SystemExit(1)"), tmp_path, stage=3)])
        await until("all up", lambda: sum(line.text == "up" for _, _, line in heard.lines) == 4)
        await until("in backoff", lambda: state_of(supervisor, "restless") is State.BACKING_OFF)
        supervisor.stop(DOWN)
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story, Rules(first_delay=60, longest_delay=60))
    assert [(n, x.text) for n, _, x in heard.lines if x.text != "up"] == [
        (name, text) for name in ("source", "worker", "sink", "broker") for text in ("stopping", "stopped")
    ]
    begun = sorted(supervisor.keepers[:4], key=lambda keeper: keeper.life.started_at or 0)
    assert [keeper.spec.name for keeper in begun] == ["broker", "sink", "worker", "source"]
    assert state_of(supervisor, "restless") is State.STOPPED


def test_one_that_ignores_sigterm_is_killed_after_its_stop_timeout(tmp_path: Path) -> None:

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("deaf", python(DEAF), tmp_path, stop_timeout=0.3)])
        await until("up", lambda: heard.lines)
        supervisor.stop(DOWN)
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story)
    stopped = heard.of("deaf", events.Stopped)[0]
    assert stopped.killed and stopped.exit == ChildExit(signal=signal.SIGKILL) and 0.3 <= stopped.after < 2
    assert supervisor.code == 5, "what had to be killed did not stop in order"


def test_kill_does_not_wait(tmp_path: Path) -> None:

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("deaf", python(DEAF), tmp_path, stop_timeout=600)])
        await until("up", lambda: heard.lines)
        supervisor.stop(Ending(130, "Ctrl-C"))
        await until("asked", lambda: heard.of("deaf", events.Stopping))
        supervisor.kill(Ending(130, "Ctrl-C"))
        await supervisor.over()

    supervisor, _ = supervise(tmp_path, story, seconds=5)
    assert supervisor.code == 130


@pytest.mark.parametrize("whole_group", [True, False])
def test_sigterm_reaches_the_group_or_the_child_alone(tmp_path: Path, whole_group: bool) -> None:
    helper = """
import signal, sys
def stop(*_):
    print("helper told", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
while True: signal.pause()
"""
    code = f"""
import signal, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-I", "-S", "-c", {helper!r}])
def stop(*_):
    time.sleep(0.3)
    print("helper runs" if helper.poll() is None else "helper gone", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while True: signal.pause()
"""

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python(code), tmp_path, signal_group=whole_group)])
        await until("up", lambda: "up" in heard.text("w"))
        supervisor.stop(DOWN)
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story)
    assert ("helper gone" if whole_group else "helper runs") in heard.text("w")
    assert "helper told" in heard.text("w") and supervisor.code == 0


def test_a_port_and_an_http_probe(tmp_path: Path) -> None:
    """Alive is not ready, 503 is not ready, 200 is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
import os, socket, sys
input_ = {str(tmp_path / "go")!r}
server = socket.create_server(("127.0.0.1", {port}))
print("listening", flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    status = b"200 OK" if os.path.exists(input_) else b"503 No"
    connection.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\n\\r\\n")
    connection.close()
    print(status.decode(), flush=True)
"""

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        child = spec("api", (sys.executable, "-u", "-c", code), tmp_path, port=port, probe=Probe(port=port, path="/ok"))
        supervisor.start([child])
        await until("503 seen", lambda: "503 No" in heard.text("api"))
        assert state_of(supervisor, "api") is State.STARTING
        (tmp_path / "go").touch()
        assert await supervisor.settled()
        assert state_of(supervisor, "api") is State.READY
        supervisor.stop(DOWN)
        await supervisor.over()

    assert supervise(tmp_path, story)[0].code == 0


def test_a_check_that_raises_stops_everything_and_is_raised(tmp_path: Path) -> None:
    def check() -> bool:
        raise RuntimeError("a bug")

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("api", python(SLEEP), tmp_path, probe=Probe(check=check))])
        await supervisor.over()

    with pytest.raises(RuntimeError, match="a bug"):
        supervise(tmp_path, story)


def test_unreadable_reports_are_told_once_and_harm_nothing(tmp_path: Path) -> None:
    code = """
import os, signal
fd = int(os.environ["KPIPE_STATUS_FD"])
for junk in (b"not json", b"[]", b'{"type": "else"}', b'{"type": "status", "lag": "many"}', b"\\xff" * 3_000_000):
    os.write(fd, junk + b"\\n")
os.write(fd, b'{"type": "ready"}\\n')
while True: signal.pause()
"""

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python(code), tmp_path, reports=True)])
        assert await supervisor.settled()

    _, heard = supervise(tmp_path, story)
    assert len(heard.of("w", events.BadReport)) == 1


def test_restart_after_a_kill_from_outside(tmp_path: Path) -> None:
    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("w", python(SLEEP), tmp_path)])
        assert await supervisor.settled()
        keeper = supervisor.keepers[0]
        first = keeper.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until("another process", lambda: keeper.pid not in (None, first) and keeper.life.state is State.READY)
        assert keeper.life.restarts == 1
        supervisor.stop(DOWN)
        await supervisor.over()

    supervisor, heard = supervise(tmp_path, story, FAST)
    assert supervisor.code == 0
    assert heard.of("w", events.Crashed)[0].exit == ChildExit(signal=9)
