from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.errors import KpipeError
from orchestrator.supervisor.control.lock import LONGEST_PATH, Lock, claim_socket, find_socket, holder

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_only_one_holds_the_lock_and_it_says_who(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    lock = Lock(tmp_path, NOW)
    running = holder(tmp_path)
    assert running is not None and (running.pid, running.since) == (os.getpid(), NOW.isoformat())
    with pytest.raises(KpipeError) as refused:
        Lock(tmp_path, NOW)
    assert f"process {os.getpid()}" in refused.value.message and "2026" in refused.value.message
    assert refused.value.exit_code == 1
    lock.close()
    assert holder(tmp_path) is None
    Lock(tmp_path, NOW).close()


def test_nobody_was_ever_here(tmp_path: Path) -> None:
    assert holder(tmp_path / "nowhere" / ".kpipe") is None


def test_a_look_does_not_keep_an_up_from_starting(tmp_path: Path) -> None:
    Lock(tmp_path, NOW).close()
    code = (
        "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDONLY); "
        "fcntl.flock(fd, fcntl.LOCK_SH); print(flush=True); time.sleep(0.2)"
    )
    looking = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "up.lock")], stdout=subprocess.PIPE)
    assert looking.stdout is not None
    looking.stdout.readline()
    Lock(tmp_path, NOW).close()
    looking.wait()
    looking.stdout.close()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys,time; from datetime import datetime; from pathlib import Path; "
        "from orchestrator.supervisor.control.lock import Lock; lock = Lock(Path(sys.argv[1]), datetime.now()); "
        "print(flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    found = holder(tmp_path)
    assert found is not None and found.pid == process.pid
    process.kill()
    process.wait()
    process.stdout.close()
    assert holder(tmp_path) is None
    Lock(tmp_path, NOW).close()


def test_the_socket_of_a_dead_one_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("left over")
    path = claim_socket(tmp_path)
    assert path == tmp_path / "control.sock" == find_socket(tmp_path) and not path.exists()


def test_a_long_path_moves_to_the_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60) / ".kpipe"
    deep.mkdir(parents=True)
    runtime = Path("/tmp") / f"r{os.getpid()}"
    runtime.mkdir(mode=0o700)
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        path = claim_socket(deep)
        assert path.parent == runtime / f"kpipe-{os.getuid()}" and len(os.fsencode(path)) <= LONGEST_PATH
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert find_socket(deep) == path, "found by its name under .kpipe/, whatever the environment"
        assert claim_socket(deep) != path
        path.unlink()
        path.parent.chmod(0o755)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        with pytest.raises(KpipeError, match="does not belong to you alone"):
            claim_socket(deep)
    finally:
        (runtime / f"kpipe-{os.getuid()}").rmdir()
        runtime.rmdir()
