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

from orchestrator.brokers import process
from orchestrator.errors import KpipeError
from orchestrator.state import Folder, StateError, check_own, claimed, existing, made

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
    """The `kpipe up` that runs. `pid` is 0 in the moment before it has written its own; `birth` is `process.birth`."""

    pid: int = 0
    since: str = ""
    birth: str = ""

    @property
    def may_be_signalled(self) -> bool:
        """Whether `pid` is surely that `up`, and neither this process nor a number that means several processes.

        The file may be of a former `up`, of one in a container with ids of its own, or of somebody who planted it.
        """
        return self.pid > 1 and self.pid != os.getpid() and self.birth != "" and self.birth == process.birth(self.pid)

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
        """Take it. Raises `KpipeError`: another `up` runs, or the folder cannot be written, or is not kpipe's."""
        try:
            #: The state folder, open.
            self.folder = claimed(state_dir)
        except OSError as error:
            raise _unwritable(state_dir, error) from error
        try:
            check_own(self.folder)
            self._fd = self.folder.open(_LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            self.folder.close()
            raise _unwritable(state_dir, error) from error
        except BaseException:
            self.folder.close()
            raise
        if not _within(_LOOKS, lambda: _flock(self._fd, fcntl.LOCK_EX)):
            running = _read(self._fd)
            self._close()
            raise KpipeError(
                f"this pipeline is already running ({running.text})",
                "`kpipe ps` shows it and `kpipe down` stops it",
            )
        holder = {"pid": os.getpid(), "since": since.isoformat(), "birth": process.birth(os.getpid())}
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(holder).encode(), 0)

    def close(self) -> None:
        os.ftruncate(self._fd, 0)
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self.folder.close()


def _unwritable(state_dir: Path, error: OSError) -> KpipeError:
    return KpipeError(
        f"{state_dir} cannot be written: {error.strerror}",
        "kpipe keeps its logs and its state in a folder .kpipe beside the pipeline file",
    )


def holder(state_dir: Path) -> Holder | None:
    """The `kpipe up` that runs for this folder, or None. Raises `StateError` when the folder is not this user's."""
    folder = existing(state_dir)
    if folder is None:
        return None
    with folder:
        try:
            fd = folder.open(_LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{state_dir / _LOCK} cannot be read: {error.strerror}", "check who owns it") from error
    try:
        # Shared: two that look do not see each other.
        return None if _flock(fd, fcntl.LOCK_SH) else _read(fd)
    finally:
        os.close(fd)


def claim_socket(state_dir: Path) -> Path:
    """A free path for the socket; for the holder of the lock only. A dead one's socket is removed."""
    with claimed(state_dir) as folder:
        folder.remove(_SOCKET)
        here = state_dir / _SOCKET
        if len(os.fsencode(here)) <= LONGEST_PATH:
            folder.remove(_ELSEWHERE)
            return here
        with _runtime_dir() as runtime:
            name = _name_elsewhere(state_dir)
            folder.write(_ELSEWHERE, f"{runtime.path / name}\n")
            runtime.remove(name)
            return runtime.path / name


def remove_socket(path: Path) -> None:
    """What `claim_socket` returned, when nobody listens there any more."""
    folder = existing(path.parent)
    if folder is not None:
        with folder:
            folder.remove(path.name)


def find_socket(state_dir: Path) -> Path:
    """The socket of the `up` that runs: under `.kpipe/`, or where `.kpipe/control.path` says.

    Raises `StateError` for one that no `up` of this user has made: requests would go to another program.
    """
    folder = existing(state_dir)
    if folder is None:
        return state_dir / _SOCKET
    with folder:
        elsewhere = _elsewhere(folder, state_dir)
        if elsewhere is None:
            _check_socket(folder, _SOCKET)
            return state_dir / _SOCKET
    runtime = existing(elsewhere.parent)
    if runtime is not None:
        with runtime:
            _check_private(runtime)
            _check_socket(runtime, elsewhere.name)
    return elsewhere


def _elsewhere(folder: Folder, state_dir: Path) -> Path | None:
    """What `control.path` says; None without one. Only a path that `claim_socket` makes is taken."""
    try:
        data = folder.read(_ELSEWHERE)
    except ValueError:
        data = b""
    if data is None:
        return None
    path = Path(os.fsdecode(data).strip())
    names = (path.parent.name, path.name)
    if not path.is_absolute() or names != (_runtime_name(), _name_elsewhere(state_dir)):
        raise StateError(f"{folder.path / _ELSEWHERE} names no socket of this pipeline", "remove that file")
    return path


def _check_socket(folder: Folder, name: str) -> None:
    there = folder.stat(name)
    if there is not None and not (stat.S_ISSOCK(there.st_mode) and there.st_uid in (os.geteuid(), 0)):
        raise StateError(f"{folder.path / name} is not the socket of your `kpipe up`", "remove it")


def _name_elsewhere(state_dir: Path) -> str:
    return f"{hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:24]}.sock"


def _runtime_dir() -> Folder:
    """A folder of this user only, for sockets whose project's path is too long."""
    folder = made(_runtime_root() / _runtime_name())
    try:
        _check_private(folder)
    except BaseException:
        folder.close()
        raise
    return folder


def _check_private(folder: Folder) -> None:
    there = os.fstat(folder.fd)
    # Anybody may create a folder of this name in /tmp, and would then own what is in it.
    if there.st_uid != os.geteuid() or there.st_mode & 0o077:
        raise StateError(
            f"{folder.path} does not belong to you alone", "remove it, or set XDG_RUNTIME_DIR to a folder that does"
        )


def _runtime_name() -> str:
    return f"kpipe-{os.geteuid()}"


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
    """What the holder has written; nothing if it only just took the lock, or is just letting go."""
    deadline = time.monotonic() + _LOOKS
    while True:
        written = _parsed(os.pread(fd, 4096, 0))
        if written is not None or time.monotonic() > deadline:
            return written or Holder()
        time.sleep(0.02)


def _parsed(data: bytes) -> Holder | None:
    try:
        value: Any = json.loads(data)
        pid, since, birth = value["pid"], value["since"], value.get("birth", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    valid = type(pid) is int and 0 < pid < process.MOST and isinstance(since, str) and isinstance(birth, str)
    return Holder(pid, since, birth) if valid else None


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
