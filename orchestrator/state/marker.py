"""Which folder is kpipe's to empty: the one that has its marker.

The marker is put into a folder that kpipe made, and into one that an older kpipe made. `KPIPE_STATE_DIR` may name any
folder, the user's home too: kpipe works in it, but does not mark it, does not change its mode, and never empties it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from orchestrator.state.folder import Folder, StateError, made

MARKER = "kpipe-state"
_TEXT = "kpipe made this folder and keeps its state here. `kpipe down -v` deletes what is in it.\n"
#: The name of the folder beside a pipeline file.
_USUAL = ".kpipe"
_FOLDERS = frozenset({"broker", "journal", "logs"})
_SOCKET = "control.sock"
_FILES = frozenset({"broker.json", "broker.lock", "control.path", "docker-ports.json", "instance", "up.lock", MARKER})
_OWN = _FOLDERS | _FILES | {_SOCKET}


def claimed(path: Path) -> Folder:
    """The state folder for a command that writes to it: made if need be, marked, readable by this user only.

    Raises `OSError` when it cannot be made, and `StateError` when it is not a folder of this user.
    """
    folder = made(path)
    try:
        if is_marked(folder) or _looks_own(folder):
            _close_to_others(folder)
            with contextlib.suppress(FileExistsError):
                os.close(_marking(folder))
    except BaseException:
        folder.close()
        raise
    return folder


def check_own(folder: Folder) -> None:
    """Raise `StateError` unless kpipe's files and folders in it are what they should be, before anything is started."""
    for name in folder.names():
        there = folder.stat(name)
        if there is None or name not in _OWN or (name == _SOCKET and not stat.S_ISLNK(there.st_mode)):
            continue
        if name in _FILES:
            with contextlib.suppress(FileNotFoundError):
                os.close(folder.open(name, os.O_RDONLY))
        elif name != "broker":  # which is looked through before Kafka is started in it
            inside = folder.find(name)
            if inside is not None:
                with inside:
                    inside.check()


def require_own(folder: Folder) -> None:
    """Raise `StateError` unless kpipe made it, so that it may be emptied."""
    if not _looks_own(folder):
        require_marker(folder)


def require_marker(folder: Folder) -> None:
    """The same after `claimed`, which has marked it if kpipe made it."""
    if not is_marked(folder):
        raise StateError(
            f"{folder.path} was not made by kpipe: it is not emptied",
            f"delete by hand what you don't need; only a folder with kpipe's own file {MARKER} is emptied",
        )


def is_marked(folder: Folder) -> bool:
    there = folder.stat(MARKER)
    return there is not None and stat.S_ISREG(there.st_mode)


def _looks_own(folder: Folder) -> bool:
    """Whether it is empty, or was made by a kpipe that set no markers."""
    names = {_final(name) for name in folder.names()}
    if folder.path.name == _USUAL:
        # Handlers keep their own files there too.
        return not names or not names.isdisjoint(_OWN)
    return names <= _OWN


def _final(name: str) -> str:
    """Of a file that was being written when kpipe was killed: the name that it was to have."""
    return name[1:].rpartition(".")[0] if name.startswith(".") else name


def _close_to_others(folder: Folder) -> None:
    there = os.fstat(folder.fd)
    if there.st_uid == os.geteuid() and there.st_mode & 0o077:
        with contextlib.suppress(PermissionError):
            os.fchmod(folder.fd, 0o700)


def _marking(folder: Folder) -> int:
    fd = folder.open(MARKER, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, _TEXT.encode())
    return fd
