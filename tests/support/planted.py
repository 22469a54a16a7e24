"""Project folders with something nasty in the place of kpipe's state, and commands run in them.

Run as a program it takes a folder and a JSON list of command lines, runs each in a process of its own (forked, so that
nothing is imported twice), and prints what became of them as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PIPELINE = """
kpipe: 1
pipeline: shop
kafka: {bootstrap: "%s"}
topics: {orders: {dlq: orders.dlq}}
handlers:
  pay: {exec: [cat], consumes: [orders]}
"""
#: A command that takes longer hangs.
_SECONDS = 25
#: Bytes that a command may need for one file: far less than the largest that is planted.
MEMORY = 40_000_000
FOLDERS = ("logs", "journal", "broker", "broker/data")
FILES = (
    "up.lock", "broker.lock", "broker.json", "docker-ports.json", "instance", "control.path", "control.sock",
    "kpipe-state", "logs/pay.log", "logs/_up.log", "journal/shop.pay.0~1-1.journal", "broker/ports.json",
    "broker/server.properties", "broker/data/meta.properties",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    words: tuple[str, ...]
    code: int
    text: str
    seconds: float
    memory: int

    @property
    def is_clear(self) -> bool:
        """It ended by itself, with no bug, and says what to do where it failed."""
        bug = any(word in self.text for word in ("Traceback", "unexpected", "please report"))
        failed = self.code != 0 and self.words[:2] != ("broker", "status")
        return not bug and self.code in (0, 1, 2, 4) and (not failed or "hint" in self.text)


def project(folder: Path, bootstrap: str = "") -> Path:
    """Returns its state folder, which is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pipeline.yaml").write_text(PIPELINE % bootstrap)
    return folder / ".kpipe"


def plant(path: Path, what: str, outside: Path) -> None:
    """Put it there. `outside` is a folder that no command may touch, with the file `precious`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match what:
        case "link":
            path.symlink_to(outside / "precious")
        case "link to a folder":
            path.symlink_to(outside)
        case "dangling link":
            path.symlink_to(outside / "new")
        case "link to /dev/zero":
            path.symlink_to("/dev/zero")
        case "hard link":
            os.link(outside / "precious", path)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "100 MB":
            with path.open("wb") as file:
                for _ in range(100):
                    file.write(b"[" * 1_000_000)
        case _:
            path.write_bytes(what.encode())


def outside_of(folder: Path) -> Path:
    made = folder / "outside"
    (made / "deep").mkdir(parents=True)
    (made / "precious").write_text("precious\n")
    (made / "deep" / "too").write_text("precious\n")
    return made


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that is in it, with content, mode and time of the last change."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted((folder, *folder.rglob("*")))
    }  # fmt: skip


def run(folder: Path, *commands: Sequence[str], env: dict[str, str] | None = None) -> list[Ended]:
    """Each command in that folder, one after the other."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.planted", str(folder), json.dumps(commands)],
        capture_output=True, text=True, timeout=len(commands) * _SECONDS + 30, check=True, start_new_session=True,
        env={**os.environ, **(env or {})}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return [Ended(tuple(words), *rest) for words, *rest in json.loads(done.stdout)]


def _all(folder: Path, commands: Sequence[Sequence[str]]) -> list[tuple[object, ...]]:

    os.chdir(folder)
    return [(words, *_one(words)) for words in commands]


def _one(words: Sequence[str]) -> tuple[int, str, float, int]:
    """Exit code (124: it hung), what it printed, seconds, and the bytes of memory it took beyond what it began with."""
    from orchestrator.cli.main import main

    with tempfile.TemporaryFile() as out:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            for fd in (1, 2):
                os.dup2(out.fileno(), fd)
            os._exit(main(list(words)))
        while (ended := os.wait4(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() - began > _SECONDS:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return 124, "it hung", _SECONDS, 0
            time.sleep(0.01)
        out.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        taken = (ended[2].ru_maxrss - before) * unit
        code = os.waitstatus_to_exitcode(ended[1])
        return code, out.read().decode(), time.monotonic() - began, taken


if __name__ == "__main__":
    json.dump(_all(Path(sys.argv[1]), json.loads(sys.argv[2])), sys.stdout)
