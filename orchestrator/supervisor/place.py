"""Where the one `kpipe up` of a project folder is found: its lock and its socket. DESIGN section 8.

The lock (`.kpipe/up.lock`, flock(2)) is the truth: the kernel lets go of it when its holder dies, however it dies. A
socket file proves nothing and is replaced by the next holder of the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.errors import KpipeError

#: Linux has 108 bytes for a socket's path, macOS 104.
LONGEST_PATH = 100
_SOCKET = "control.sock"
_ELSEWHERE = "control.path"
_LOCK = "up.lock"
#: Bytes of what is put behind a runtime folder: `/kpipe-UID/HASH.sock`.
_NAMES = 50
#: How long a lock may be busy because somebody only looks at it (seconds).
_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class Holder:
    """The `kpipe up` that runs. `pid` is 0 in the moment before it has said so."""

    pid: int = 0
    since: str = ""

    @property
    def text(self) -> str:
        """`process 4711, since 12:34:56`."""
        try:
            when = datetime.fromisoformat(self.since).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        except ValueError:
            return f"process {self.pid}" if self.pid else "it is just starting"
        return f"process {self.pid}, since {when}"


class Lock:
    """Held from before anything starts until everything has stopped. Close it to let go."""

    def __init__(self, state_dir: Path, since: datetime) -> None:
        """Take it. Raises `KpipeError`: another `up` runs, or the folder cannot be written."""
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KpipeError(
                f"{state_dir} cannot be written: {error.strerror}",
                "kpipe keeps its logs and its state in a folder .kpipe beside the pipeline file",
            ) from error
        if not _within(_LOOKS, lambda: _flock(self._fd, fcntl.LOCK_EX)):
            running = _read(self._fd)
            os.close(self._fd)
            raise KpipeError(
                f"this pipeline is already running ({running.text})",
                "`kpipe ps` shows it and `kpipe down` stops it",
            )
        said = json.dumps({"pid": os.getpid(), "since": since.isoformat()}).encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, said, 0)

    def close(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def holder(state_dir: Path) -> Holder | None:
    """The `kpipe up` that runs for this folder, or None."""
    try:
        fd = os.open(state_dir / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        # Shared: two that look do not see each other.
        return None if _flock(fd, fcntl.LOCK_SH) else _read(fd)
    finally:
        os.close(fd)


def claim_socket(state_dir: Path) -> Path:
    """A free path for the socket; for the holder of the lock only. A dead one's socket is removed."""
    here, pointer = state_dir / _SOCKET, state_dir / _ELSEWHERE
    here.unlink(missing_ok=True)
    if len(os.fsencode(here)) <= LONGEST_PATH:
        pointer.unlink(missing_ok=True)
        return here
    name = hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:24]
    path = _runtime_dir() / f"{name}.sock"
    pointer.write_text(f"{path}\n")
    path.unlink(missing_ok=True)
    return path


def find_socket(state_dir: Path) -> Path:
    """The socket of the `up` that runs: under `.kpipe/`, or where `.kpipe/control.path` says."""
    try:
        return Path((state_dir / _ELSEWHERE).read_text().strip())
    except FileNotFoundError:
        return state_dir / _SOCKET


def _runtime_dir() -> Path:
    """A folder of this user only, for sockets whose project's path is too long."""
    folder = _runtime_root() / f"kpipe-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Anybody may create a folder of this name in /tmp, and would then own what is in it.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise KpipeError(
            f"{folder} does not belong to you alone", "remove it, or set XDG_RUNTIME_DIR to a folder that does"
        )
    return folder


def _runtime_root() -> Path:
    for root in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if root and Path(root).is_dir() and len(os.fsencode(root)) + _NAMES <= LONGEST_PATH:
            return Path(root)
    return Path("/tmp")


def _flock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> Holder:
    """What the holder says of itself; nothing if it only just took the lock, or is just letting go."""
    deadline = time.monotonic() + _LOOKS
    while True:
        try:
            said: Any = json.loads(os.pread(fd, 4096, 0))
            return Holder(int(said["pid"]), str(said["since"]))
        except (ValueError, KeyError, TypeError):
            if time.monotonic() > deadline:
                return Holder()
        time.sleep(0.02)


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
