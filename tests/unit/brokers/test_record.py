from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.brokers import BrokerRecord, recorded
from orchestrator.brokers import record as records
from orchestrator.brokers.process import alive, broker_runs, end, find_broker, mark
from orchestrator.errors import BrokerError
from orchestrator.state import MARKER, StateError

LOCAL = BrokerRecord("127.0.0.1:20001", "local", 4711, "broker", "abc", "4.3.1")


@pytest.fixture
def pretender(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a broker's mark on its command line, which is all that the record asks for."""
    words = [sys.executable, "-c", "input()", mark(records.home(tmp_path))]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_written_and_read_for_this_user_only(tmp_path: Path, pretender: subprocess.Popen[bytes]) -> None:
    written = replace(LOCAL, pid=pretender.pid)
    records.write(tmp_path, written)
    assert recorded(tmp_path) == written
    assert stat.S_IMODE((tmp_path / "broker.json").stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"broker.json", MARKER}


def test_replaced_as_a_whole_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        records.write(tmp_path, LOCAL)
        records.write(tmp_path, replace(LOCAL, address="127.0.0.1:20003"))
    finally:
        os.umask(before)
    assert records.read(tmp_path) == replace(LOCAL, address="127.0.0.1:20003")
    assert stat.S_IMODE((tmp_path / "broker.json").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    records.write(tmp_path, LOCAL)
    tmp_path.chmod(0o500)
    with pytest.raises(BrokerError, match="Permission denied"):
        records.remove(tmp_path)
    with pytest.raises(BrokerError, match="Permission denied"):
        records.write(tmp_path, LOCAL)


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / ".kpipe").touch()
    for use in (recorded, records.remove, lambda folder: records.write(folder, LOCAL)):
        with pytest.raises(StateError, match=r"\.kpipe is a file, not a folder"):
            use(tmp_path / ".kpipe")


def test_none_without_a_file(tmp_path: Path) -> None:
    assert recorded(tmp_path) is None and recorded(tmp_path / "nowhere") is None


def test_a_dead_process_means_no_broker_and_the_file_stays(tmp_path: Path, pretender: subprocess.Popen[bytes]) -> None:
    records.write(tmp_path, replace(LOCAL, pid=pretender.pid))
    pretender.kill()
    pretender.wait()
    assert recorded(tmp_path) is None
    assert (tmp_path / "broker.json").exists()


def test_a_zombie_is_dead(tmp_path: Path, pretender: subprocess.Popen[bytes]) -> None:
    records.write(tmp_path, replace(LOCAL, pid=pretender.pid))
    pretender.kill()
    os.waitid(os.P_PID, pretender.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(pretender.pid)
    assert recorded(tmp_path) is None


def test_an_id_that_belongs_to_another_program_means_no_broker(tmp_path: Path) -> None:
    records.write(tmp_path, replace(LOCAL, pid=os.getpid()))
    assert recorded(tmp_path) is None


def test_the_broker_of_another_folder_is_not_ours(tmp_path: Path, pretender: subprocess.Popen[bytes]) -> None:
    other = tmp_path / "other"
    records.write(other, replace(LOCAL, pid=pretender.pid))
    assert broker_runs(pretender.pid, records.home(tmp_path))
    assert recorded(other) is None


@pytest.mark.parametrize(
    "change",
    [{"kind": "external"}, {"kind": 1}, {"kind": ["local"]}, {"started_by": "me"}, {"pid": "7"}, {"pid": True},
     {"pid": -1}, {"pid": 0}, {"pid": 1}, {"pid": 2**31}, {"pid": 10**400}, {"owner_pid": 1.5}, {"owner_pid": -1},
     {"owner_pid": 0}, {"cluster_id": 5}, {"version": "4" * 1000}, {"version": None},
     {"address": ""}, {"address": None}, {"address": "kafka.example.com:9092"}, {"address": "127.0.0.1"},
     {"address": "127.0.0.1:0"}, {"address": "127.0.0.1:65536"}, {"address": "127.0.0.1:-1"},
     {"address": "127.0.0.1:9092,kafka.example.com:9092"}, {"address": "kafka.example.com:1,127.0.0.1:9092"},
     {"address": "127.0.0.1:٩"}, {"address": 9092}, {"address": "0.0.0.0:9092"}, {"address": "192.0.2.1:9092"}],
)  # fmt: skip
def test_nonsense_counts_as_no_record(tmp_path: Path, change: dict[str, object]) -> None:
    records.write(tmp_path, LOCAL)
    found = json.loads((tmp_path / "broker.json").read_text())
    (tmp_path / "broker.json").write_text(json.dumps({**found, **change}))
    assert records.read(tmp_path) is None and recorded(tmp_path) is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"kind": "local"}'])
def test_what_is_no_record_at_all_counts_as_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "broker.json").write_bytes(text)
    assert recorded(tmp_path) is None


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    docker = BrokerRecord("127.0.0.1:20001", "docker", None, "up", owner_pid=5)
    records.write(tmp_path, docker)
    found = json.loads((tmp_path / "broker.json").read_text())
    (tmp_path / "broker.json").write_text(json.dumps({**found, "colour": "green"}))
    assert recorded(tmp_path) == docker


def test_another_program_is_never_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        assert end(bystander.pid, records.home(tmp_path), 1.0)
        assert bystander.poll() is None
        bystander.kill()


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    words = [sys.executable, "-c", code, mark(records.home(tmp_path))]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None and stubborn.stdout.readline() == b"up\n"
        assert not end(stubborn.pid, records.home(tmp_path), 0.2)
        assert not alive(stubborn.pid)


def test_a_broker_that_nobody_reaps_has_ended(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "print('up', flush=True); input()", mark(records.home(tmp_path))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"up\n"
        assert end(child.pid, records.home(tmp_path), 20.0)
        assert Path(f"/proc/{child.pid}").exists() or not Path("/proc").exists()


def test_a_shim_is_not_taken_for_the_broker_itself(tmp_path: Path, pretender: subprocess.Popen[bytes]) -> None:
    assert find_broker(records.home(tmp_path)) is None


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EACCES, "owns")]
)
def test_what_cannot_be_written_is_told_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BrokerError, match=re.escape(str(tmp_path / "broker.json"))) as refused:
        records.write(tmp_path, BrokerRecord("127.0.0.1:20001", "docker", None, "up", owner_pid=5))
    assert hint in refused.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {MARKER, "broker.lock"}, "nothing half-written stays"
