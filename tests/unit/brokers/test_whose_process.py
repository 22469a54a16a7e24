"""A process is the broker only when it runs as this user: command lines can be had by anybody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.brokers import record as records
from orchestrator.brokers.process import birth, broker_runs, end, find_broker, mark
from tests.support.supervised import wait_until

NOBODY = 65534


@pytest.fixture(params=[pytest.param(NOBODY, marks=pytest.mark.skipif(os.geteuid() != 0, reason="root only")), None])
def pretender(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, bool]]:
    """The process id of a `java` with the broker's words, and whether it is this user's."""
    words = ["java", "-c", "echo; read line", mark(records.home(tmp_path))]
    with subprocess.Popen(
        words, executable="/bin/sh", user=request.param, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid, request.param is None
        child.kill()


def test_a_process_of_another_user_is_not_ours(tmp_path: Path, pretender: tuple[int, bool]) -> None:
    pid, ours = pretender
    home = records.home(tmp_path)
    assert broker_runs(pid, home) == ours
    assert find_broker(home) == (pid if ours else None)
    assert bool(birth(pid)) == ours
    assert end(pid, home, 0.5)
    assert Path(f"/proc/{pid}").exists() or ours, "it was left alone"


def test_a_process_is_known_by_its_birth() -> None:
    with subprocess.Popen(["sleep", "600"]) as one:
        first = birth(one.pid)
        assert first and first == birth(one.pid)
        assert first != birth(1) and birth(os.getpid()) != ""
        one.kill()
    wait_until("it is gone", lambda: birth(one.pid) == "")
