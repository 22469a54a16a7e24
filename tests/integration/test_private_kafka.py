"""What other users of the machine can see of a local Kafka's files, and what its JVM gets of kpipe."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.brokers import recorded
from orchestrator.brokers.install import pins
from tests.integration.test_up_local import Shop
from tests.support.supervised import wait_until
from tests.support.up import Up

pytestmark = pytest.mark.kafka


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    before = os.umask(0o022)
    made = Shop(tmp_path)
    yield made
    os.umask(before)
    for process in made.processes:
        process.kill()


def open_to_others(folder: Path) -> list[str]:
    """The files and folders in it that others may do anything with, as far as their own permissions say."""
    return [str(path) for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077]


def pipes(pid: int, least: int = 0) -> set[str]:
    """The pipes of a process, by inode; of file descriptors from `least` on."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:
            continue
        if int(fd.name) >= least:
            found |= set(re.findall(r"pipe:\[(\d+)\]", target))
    return found


def check(shop: Shop) -> None:
    assert (shop.state / "broker" / "data" / "meta.properties").is_file()
    written = open_to_others(shop.state / "broker")
    # kpipe's own files beside the data lie in a folder that nobody else may enter.
    assert {Path(path).name for path in written} <= {"ports.json", "log4j2.properties", "server.properties"}
    assert stat.S_IMODE((shop.state / "broker").stat().st_mode) == 0o700
    assert stat.S_IMODE((shop.state / "logs" / "broker.log").stat().st_mode) == 0o600


def test_a_kafka_by_itself(shop: Shop) -> None:
    (shop.state / "broker").mkdir(parents=True)  # as an older kpipe made it
    assert shop.kpipe("broker", "start").returncode == 0
    check(shop)
    assert stat.S_IMODE((shop.state / "logs" / "broker.out").stat().st_mode) == 0o600
    assert shop.kpipe("broker", "stop").returncode == 0


def test_a_kafka_under_up(shop: Shop) -> None:
    running = Up(shop, (), {"env": shop.env})  # type: ignore[arg-type]
    running.says("next: ", 90)
    check(shop)
    record = recorded(shop.state)
    assert record is not None and record.pid is not None
    if Path("/proc/self/fd").is_dir():
        words = Path(f"/proc/{record.pid}/cmdline").read_bytes().decode().split("\0")
        assert {Path(jar).name for jar in words[words.index("-cp") + 1].split(":")} == pins.jars().keys()
        # Its stdout and stderr come from `up`; none of the others.
        assert not pipes(record.pid, least=3) & pipes(running.process.pid)
    assert shop.kpipe("down").returncode == 0
    assert running.ended(1) == 0
    wait_until("nothing is left", lambda: not shop.processes)
