"""Whom `kpipe down` signals, by what the lock file says. No signal is sent: `os.kill` is replaced first."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from orchestrator.brokers.process import birth
from orchestrator.cli.main import main
from orchestrator.operations import control
from tests.support.planted import plant

HERE = os.getpid()
BIRTH = birth(HERE)


def written(pid: object, **more: object) -> str:
    return json.dumps({"pid": pid, "since": "", "birth": BIRTH, **more})


#: What is in the file.
LOCKS = [
    "",
    "{",
    "[]",
    "null",
    "0",
    "[" * 4_000,
    '{"pid": 1e999, "since": ""}',
    written(0),
    written(1),
    written(-1),
    written(-HERE),
    written(True),
    written(str(HERE)),
    written(float(HERE)),
    written(2**31),
    written(2**64),
    written(10**30),
    written(HERE),
    written(None),
    written(os.getppid(), birth=""),
    written(os.getppid(), birth=None),
    written(os.getppid(), birth=12345),
    written(os.getppid(), birth="12345"),
    json.dumps({"pid": os.getppid(), "since": ""}),
]


class Signalled(Exception):
    """In place of a signal."""


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What would have been signalled; the command ends there."""
    sent: list[tuple[object, ...]] = []

    def refuse(*target: object) -> None:
        sent.append(target)
        raise Signalled

    for name in ("kill", "killpg", "pidfd_send_signal"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    monkeypatch.setattr(control, "_STARTING_SECONDS", 0.1)
    return sent


@pytest.mark.parametrize("text", LOCKS, ids=range(len(LOCKS)))
def test_nobody_unless_the_lock_says_for_sure_who_holds_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    signals: list[tuple[object, ...]],
    text: str,
) -> None:
    plant(tmp_path / ".kpipe" / "up.lock", text, tmp_path)
    monkeypatch.chdir(tmp_path)
    with (tmp_path / ".kpipe" / "up.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["down"]) == 1
    assert signals == []
    shown = capfd.readouterr().err
    assert "another process holds" in shown and "hint: `lsof" in shown and "unexpected" not in shown
