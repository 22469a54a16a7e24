"""A folder `.kpipe` that came with a checkout, or that somebody else made: no command follows it anywhere."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.state import MARKER
from tests.support.planted import MEMORY, outside_of, plant, project, run, seen
from tests.support.supervised import wait_until
from tests.support.up import CODE, IDLE, Project

Words = tuple[str, ...]
#: What is in a state file: it says nothing, and is passed over.
NONSENSE = ["", "0", "-1", '{"pid": 0, "since": ""}', '[{"pid": 1e999}]', "[" * 60_000, "9" * 6_000, "100 MB"]
#: What is no file at all: the command that needs it ends with 2.
NO_FILE = ["link", "link to a folder", "dangling link", "link to /dev/zero", "fifo", "folder"]
PS, DOWN, STATUS, STOP, LOGS = ("ps",), ("down",), ("broker", "status"), ("broker", "stop"), ("logs",)
SEND, TAIL, LAG, UP = ("send", "orders", "{}"), ("tail", "orders"), ("lag",), ("up",)
WIPE = ("down", "-v")
#: Which commands read which file, and how they end when nothing is there.
READERS: dict[str, dict[Words, int]] = {
    "broker.json": {DOWN: 0, STATUS: 4, STOP: 0, SEND: 4, TAIL: 4, LAG: 4, WIPE: 0},
    "up.lock": {PS: 0, DOWN: 0, WIPE: 0},
    "logs/pay.log": {LOGS: 0},
}
STARTED = {"up.lock", "instance", "logs/pay.log", "journal/shop.pay.0~1-1.journal"}
ALL = (PS, DOWN, STATUS, STOP, LOGS, SEND, TAIL, LAG, UP, WIPE)


@pytest.mark.parametrize("what", NONSENSE, ids=lambda what: repr(what[:12]))
@pytest.mark.parametrize("file", READERS)
def test_nonsense_in_a_file_counts_as_nothing(tmp_path: Path, file: str, what: str) -> None:
    state = project(tmp_path / "project")
    plant(state / file, what, tmp_path)
    for ended in run(tmp_path / "project", *READERS[file]):
        assert ended.is_clear and ended.memory < MEMORY, ended
        assert ended.code == READERS[file][ended.words], ended
    assert WIPE not in READERS[file] or {path.name for path in state.iterdir()} == {MARKER, "up.lock"}


@pytest.mark.parametrize("what", NO_FILE)
@pytest.mark.parametrize("file", sorted(STARTED | READERS.keys()))
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, file: str, what: str) -> None:
    state, outside = project(tmp_path / "project"), outside_of(tmp_path)
    plant(state / file, what, outside)
    before = seen(outside)
    refused = file in STARTED and not (what == "folder" and "/" in file)  # a folder is no danger to `up`
    for ended in run(tmp_path / "project", *READERS.get(file, ()), *((UP,) if refused else ())):
        assert ended.is_clear, ended
        assert ended.code == 2 and str(state / file) in ended.text, ended
    assert seen(outside) == before


@pytest.mark.parametrize("what", ["link to a folder", "text", "fifo"])
def test_the_folder_itself_is_something_else(tmp_path: Path, what: str) -> None:
    state, outside = project(tmp_path / "project"), outside_of(tmp_path)
    for name_outside in (MARKER, "up.lock", "logs/pay.log", "broker/data/x"):
        plant(outside / name_outside, "", outside)
    plant(state, what, outside)
    before = seen(outside)
    for ended in run(tmp_path / "project", *ALL, ("broker", "start"), ("doctor",)):
        assert ended.code == (1 if ended.words == ("doctor",) else 2), ended
        assert str(state) in ended.text and not any(word in ended.text for word in ("Traceback", "report")), ended
    assert seen(outside) == before


def test_a_folder_that_the_user_named_is_emptied_only_if_kpipe_made_it(tmp_path: Path) -> None:
    project(tmp_path / "project")
    home = tmp_path / "home"
    for file in ("letters/one.txt", "logs/of-mine.log", "up.lock"):
        plant(home / file, "", home)
    before = seen(home)
    [refused] = run(tmp_path / "project", ("down", "-v"), env={"KPIPE_STATE_DIR": str(home)})
    assert refused.code == 2 and "home was not made by kpipe: it is not emptied" in refused.text
    assert seen(home) == before
    (tmp_path / "link").symlink_to(home)
    [refused] = run(tmp_path / "project", ("down", "-v"), env={"KPIPE_STATE_DIR": str(tmp_path / "link")})
    assert refused.code == 2 and "link is a symbolic link" in refused.text
    assert seen(home) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what belongs to others")
def test_the_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    state = project(tmp_path / "project")
    plant(state / "up.lock", "", tmp_path)
    os.chown(state, 65534, 65534)
    for ended in run(tmp_path / "project", *ALL):
        assert ended.code == 2 and "belongs to nobody, and kpipe runs as root" in ended.text, ended


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
@pytest.mark.parametrize("kind", ["docker", "local"])
def test_a_planted_record_connects_to_nothing(tmp_path: Path, host: str, kind: str) -> None:
    state = project(tmp_path / "project")
    with socket.create_server((socket.gethostbyname(host), 0)) as server:
        server.settimeout(0)
        record = {"kind": kind, "started_by": "broker", "pid": os.getpid(), "cluster_id": "", "version": ""}
        plant(state / "broker.json", json.dumps({**record, "address": f"{host}:{server.getsockname()[1]}"}), tmp_path)
        plant(state / "broker.lock", "", tmp_path)
        for ended in run(
            tmp_path / "project", ("send", "orders", "{}"), ("lag",), ("tail", "orders"), ("broker", "status")
        ):
            assert ended.code == 4 and ended.is_clear
        with pytest.raises(BlockingIOError):
            server.accept()


# -- signals -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked_by_nobody_known(state: Path, text: str) -> Iterator[None]:
    """Another process holds the lock, and says of itself what `text` is."""
    plant(state / "up.lock", text, state)
    with (state / "up.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


# Numbers that mean many processes (-1, another group): tests/unit/cli/running/test_down.py, where no signal is real.
@pytest.mark.parametrize("pid", ["", "0", "a bystander", "whose birth is a lie"])
def test_down_signals_nobody_that_it_does_not_know(tmp_path: Path, pid: str) -> None:
    state = project(tmp_path / "project")
    # A session of its own, in which a signal to the group 0 would hit the shell and its other child, and nothing else.
    script = f'"{sys.executable}" -c "{CODE}" down; echo "ended with $?"; kill -0 $other && echo "the other lives"'
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        birth = ', "birth": "12345"' if pid == "whose birth is a lie" else ""
        shown = pid if pid == "0" else bystander.pid
        with locked_by_nobody_known(state, f'{{"pid": {shown}, "since": ""{birth}}}' if pid else ""):
            done = subprocess.run(
                ["sh", "-c", f"sleep 600 & other=$!; {script}; kill $other"],
                cwd=tmp_path / "project", capture_output=True, text=True, start_new_session=True, timeout=60,
            )  # fmt: skip
        assert "ended with 1" in done.stdout and "the other lives" in done.stdout, done
        assert "another process holds" in done.stderr and "hint: `lsof" in done.stderr and "kill" not in done.stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_down_signals_an_up_that_has_no_socket_yet(tmp_path: Path) -> None:
    state = project(tmp_path / "project")
    code = (
        "import sys, time; from datetime import UTC, datetime; from pathlib import Path; "
        "from orchestrator.supervisor.control.lock import Lock; lock = Lock(Path(sys.argv[1]), datetime.now(UTC)); "
        "print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE) as starting:
        assert starting.stdout is not None
        starting.stdout.readline()
        [ended] = run(tmp_path / "project", ("down",))
        assert ended.code == 0 and ended.text.startswith("stopped")
        assert starting.wait(10) == -signal.SIGTERM


def test_requests_go_to_no_socket_but_that_of_an_up(tmp_path: Path) -> None:
    state = project(tmp_path / "project")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()
        other.settimeout(0)
        with locked_by_nobody_known(state, ""):
            plant(state / "control.path", f"{tmp_path / 'other.sock'}\n", tmp_path)
            [by_path] = run(tmp_path / "project", ("ps",))
            (state / "control.path").unlink()
            (state / "control.sock").symlink_to(tmp_path / "other.sock")
            [by_link] = run(tmp_path / "project", ("ps",))
        assert by_path.code == 2 and "control.path names no socket of this pipeline" in by_path.text
        assert by_link.code == 2 and "control.sock is not the socket of your `kpipe up`" in by_link.text
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_plain_file_in_the_runtime_folders_place(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    project(deep, "127.0.0.1:1")
    runtime = Path("/tmp") / f"r{os.getpid()}"
    runtime.mkdir(mode=0o700)
    in_place = runtime / f"kpipe-{os.geteuid()}"
    try:
        for what in ("text", "link to a folder", "fifo"):
            plant(in_place, what, tmp_path)
            [ended] = run(deep, ("up",), env={"XDG_RUNTIME_DIR": str(runtime)})
            assert ended.code == 2 and ended.is_clear and str(in_place) in ended.text, ended
            in_place.unlink()
    finally:
        runtime.rmdir()


# -- with Kafka --------------------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.parametrize("what", ["", "[" * 60_000])
def test_up_replaces_nonsense_and_keeps_its_files_to_itself(tmp_path: Path, kafka: str, what: str) -> None:
    made = Project(tmp_path, kafka, {"idle": IDLE})
    for file in ("up.lock", "broker.json", "broker.lock", "docker-ports.json", "control.path", "control.sock"):
        plant(made.state / file, what, tmp_path)
    made.state.chmod(0o755)
    with made.up() as up:
        up.ready()
        assert "idle" in made.kpipe("ps").stdout and "idle" in made.kpipe("logs").stdout
        for path in (made.state, *made.state.rglob("*")):
            if path.name not in ("broker.json", "broker.lock", "docker-ports.json", "up.lock"):
                assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
        assert made.kpipe("down").returncode == 0 and up.ended() == 0


@pytest.mark.kafka
@pytest.mark.parametrize(
    "file",
    ["broker", "broker/data", "broker/server.properties", "broker/ports.json", "broker/data/orders-0/0.log",
     "logs/broker.log", "logs/broker.out", "broker.lock"],
)  # fmt: skip
def test_kafka_is_not_started_on_links(tmp_path: Path, kafka: str, file: str) -> None:
    state, outside = project(tmp_path / "project"), outside_of(tmp_path)
    plant(state / file, "link to a folder" if file in ("broker", "broker/data") else "link", outside)
    before = seen(outside)
    [ended] = run(tmp_path / "project", ("broker", "start"))
    assert ended.code == 2 and f"{state / file} is a symbolic link" in ended.text, ended
    assert seen(outside) == before
    wait_until("nothing was started", lambda: not (state / "broker.json").exists())
