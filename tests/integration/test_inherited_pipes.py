"""What a handler starts gets none of kpipe's pipes: a program that lives on would hold them open."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.config.building import portable
from orchestrator.supervisor.supervisor import Supervisor
from tests.support.supervised import Heard, spec, supervise, until, wait_until

#: Runs when the worker imports it: its shell child lives on, and says which pipes and sockets it holds.
MODULE = """\
import os
def handle(event): ...
os.system("ls -l /proc/self/fd > fds; sleep 300 > /dev/null 2>&1 & echo $! > part; mv part pid")
"""
#: The same without another program: `multiprocessing` forks like this.
FORKING = """\
import os, signal
def handle(event): ...
pid = os.fork()
if pid == 0:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    open("fds", "w").write("\\n".join(os.readlink(link) for link in links if os.path.lexists(link)))
    open("part", "w").write(str(os.getpid()))
    os.rename("part", "pid")
    while True: signal.pause()
"""
PIPELINE = """\
kpipe: 1
pipeline: shop
kafka: {bootstrap: "127.0.0.1:1"}
topics: {orders: {key: id}}
handlers: {pay: {python: "pay:handle", consumes: [orders], dlq: none}}
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")


def inode(fd: int) -> str:
    return str(os.fstat(fd).st_ino)


@contextlib.contextmanager
def worker(folder: Path, module: str) -> Iterator[tuple[subprocess.Popen[bytes], int, set[str]]]:
    """A worker as the supervisor starts it; the reading end of its status pipe, and the inodes of both its pipes."""
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "pay.py").write_text(module)
    pipeline = load([folder / "pipeline.yaml"], os.environ).pipeline
    assert pipeline is not None
    document = {"pipeline": portable(pipeline), "bootstrap": "127.0.0.1:1", "handler": "pay", "slot": 0}
    config, writing = os.pipe()
    status, reporting = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.worker.entry"], cwd=folder, pass_fds=(config, reporting),
        env={**os.environ, "KPIPE_CONFIG_FD": str(config), "KPIPE_STATUS_FD": str(reporting)},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    numbers = {inode(config), inode(reporting)}
    for fd in (config, reporting):
        os.close(fd)
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps(document).encode())
    try:
        yield child, status, numbers
    finally:
        child.kill()
        child.wait()
        os.close(status)


@pytest.mark.parametrize("module", [MODULE, FORKING], ids=["a shell", "a fork"])
def test_what_a_handler_starts_holds_no_pipe_of_the_worker(tmp_path: Path, module: str) -> None:
    with worker(tmp_path, module) as (child, status, numbers):
        wait_until("it has looked", (tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        try:
            held = set(re.findall(r"pipe:\[(\d+)\]", (tmp_path / "fds").read_text()))
            assert not held & numbers
            child.kill()
            assert ended(status, 20.0), "the status pipe is still open, though its worker is gone"
            os.kill(pid, 0)  # what it has started lives on: it was not its end that closed the pipe
        finally:
            os.kill(pid, signal.SIGKILL)


def ended(fd: int, seconds: float) -> bool:
    """Whether end of file comes within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0] and not os.read(fd, 65_536):
            return True
    return False


def test_services_get_their_streams_and_nothing_else(tmp_path: Path) -> None:
    """A service is a program without pipes to kpipe; what `ls` opens itself is the folder that it lists."""
    shown: list[str] = []

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("api", ("sh", "-c", "ls /proc/self/fd; exec sleep 300"), tmp_path)])
        await until("it has looked", lambda: len(heard.text("api")) >= 4)
        shown.extend(heard.text("api"))

    supervise(tmp_path, story)
    assert shown == ["0", "1", "2", "3"]


def test_what_a_python_service_starts_gets_no_more(tmp_path: Path) -> None:
    """`close_fds=False` passes on whatever can be inherited."""
    code = "import subprocess; subprocess.run(['ls', '/proc/self/fd'], close_fds=False); import time; time.sleep(300)"
    shown: list[str] = []

    async def story(supervisor: Supervisor, heard: Heard) -> None:
        supervisor.start([spec("api", (sys.executable, "-u", "-c", code), tmp_path)])
        await until("it has looked", lambda: len(heard.text("api")) >= 4)
        shown.extend(heard.text("api"))

    supervise(tmp_path, story)
    assert shown == ["0", "1", "2", "3"]
