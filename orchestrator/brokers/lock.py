"""One at a time across processes: an advisory lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.state import Folder

_POLL_SECONDS = 0.1


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock at `path`, in a folder of the user's; `on_wait` is called once when another process has it.

    flock(2) rather than a file that exists: the kernel lets go of it when its holder dies, however it dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    take(handle, on_wait)
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_in(folder: Folder, name: str, on_wait: Callable[[], None]) -> Iterator[None]:
    """The same for a lock in a state folder."""
    handle = take(folder.open(name, os.O_RDWR | os.O_CREAT), on_wait)
    try:
        yield
    finally:
        os.close(handle)


def take(handle: int, on_wait: Callable[[], None]) -> int:
    """The same for callers that keep the lock beyond one block: closing the descriptor lets go of it."""
    try:
        if not _try(handle):
            on_wait()
            # Polled, because a blocking flock would not let Python see Ctrl-C.
            while not _try(handle):
                time.sleep(_POLL_SECONDS)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
