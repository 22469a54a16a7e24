"""An open folder of this user. Every access goes through its descriptor, and follows no link.

Checking a path and then using it would leave a moment in which somebody who can write to the folder above puts a link
in its place. So a folder is opened once, judged by its descriptor (fstat), and used by it (`dir_fd`). Links above the
folder itself are the user's own business: `/tmp` is one on macOS.

A folder and its files belong to the effective user, or to root: volumes of containers are root's, and root needs no
tricks. Root itself takes nothing from other users, under sudo neither.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO would wait for its other end.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
#: Bytes of a file that is read whole, unless told otherwise. Every file of kpipe's is far smaller.
MOST_BYTES = 65_536
#: Kafka's data is three folders deep.
_DEEPEST = 16
_REFUSED = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP}
)
_REMOVE = "kpipe opens only files and folders of its own there: look where it comes from, and remove it"


class StateError(UsageError):
    """Something where kpipe keeps its state is not kpipe's: a link, a device, a file or folder of another user."""


class Folder:
    """An open folder. `path` is for messages and for other programs. A context manager."""

    __slots__ = ("fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def sub(self, name: str) -> Folder:
        """The folder `name` in it, made if need be."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.fd)
        return _open_folder(self.path / name, name, self.fd)

    def find(self, name: str) -> Folder | None:
        """The folder `name` in it; None when there is none. Raises `StateError`."""
        return _found(self.path / name, name, self.fd)

    def names(self) -> list[str]:
        """Sorted."""
        with os.scandir(self.fd) as entries:
            return sorted(entry.name for entry in entries)

    def stat(self, name: str) -> os.stat_result | None:
        """Of the entry itself, not of what a link leads to; None when there is none."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, name: str, flags: int) -> int:
        """A descriptor of a plain file. Raises `FileNotFoundError` and other `OSError`, and `StateError`.

        A file that is opened for writing must have no other name: as a hard link it could be any file of the user's.
        """
        assert not flags & os.O_TRUNC, "it would empty the file before that is judged"
        path = self.path / name
        try:
            fd = os.open(name, flags | _FILE, 0o600, dir_fd=self.fd)
        except OSError as problem:
            if problem.errno in _REFUSED:
                self._judge(name)
            if isinstance(problem, PermissionError) and flags & os.O_ACCMODE == os.O_RDONLY:
                raise _unreadable(path, problem) from problem
            raise
        try:
            there = os.fstat(fd)
            _judge(path, there)
            if not stat.S_ISREG(there.st_mode):
                raise StateError(f"{path} is a folder, not a file", _REMOVE)
            if flags & os.O_ACCMODE != os.O_RDONLY and there.st_nlink > 1:
                raise StateError(f"{path} has a second name (a hard link)", "remove it: kpipe makes a new one")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read(self, name: str, most: int = MOST_BYTES) -> bytes | None:
        """The whole file; None when there is none. Raises `ValueError` when it has more than `most` bytes."""
        try:
            fd = self.open(name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with os.fdopen(fd, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"{self.path / name} has more than {most:,} bytes")
        return data

    def read_json(self, name: str) -> Any:
        """The value in the file; None when there is no file, and when it is too long or is no JSON."""
        try:
            data = self.read(name)
            return None if data is None else json.loads(data)
        except (ValueError, RecursionError):
            return None

    def write(self, name: str, data: bytes | str) -> None:
        """Replace the file in one step. A link of that name goes, not what it leads to."""
        aside = f".{name}.{secrets.token_hex(4)}"
        try:
            with os.fdopen(self.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
            self.rename(aside, name)
        except BaseException:
            self.remove(aside)
            raise

    def rename(self, old: str, new: str) -> None:
        """What was called `new` is replaced. Raises `StateError` when that is a folder and `old` is none."""
        try:
            os.replace(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except IsADirectoryError as problem:
            raise StateError(f"{self.path / new} is a folder, not a file", _REMOVE) from problem

    def remove(self, name: str) -> None:
        """A file or a link; fine when there is none. Raises `StateError` for a folder."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as problem:
            there = self.stat(name)
            if there is not None and stat.S_ISDIR(there.st_mode):
                raise StateError(f"{self.path / name} is a folder, not a file", _REMOVE) from problem
            raise

    def delete(self, name: str) -> None:
        """A file, a link, or a folder with all that is in it; fine when there is none. Follows no link on the way."""
        there = self.stat(name)
        if there is None:
            return
        if not stat.S_ISDIR(there.st_mode):
            self.remove(name)
            return
        # With a dir_fd or without, rmtree opens each folder by its parent's descriptor and compares what it opened.
        assert shutil.rmtree.avoids_symlink_attacks
        try:
            shutil.rmtree(name, dir_fd=self.fd)
        except RecursionError as problem:
            raise StateError(
                f"{self.path / name} has too many folders inside each other", "remove it by hand"
            ) from problem

    def check(self, deepest: int = _DEEPEST) -> None:
        """Raise `StateError` unless all that is in it are plain files and folders of this user.

        For what another program is to open, which follows links.
        """
        if deepest == 0:
            raise StateError(f"{self.path} has too many folders inside each other", _REMOVE)
        for name in self.names():
            there = self.stat(name)
            if there is None:  # a running Kafka has just deleted it
                continue
            _judge(self.path / name, there)
            if stat.S_ISDIR(there.st_mode) and (inside := self.find(name)) is not None:
                with inside:
                    inside.check(deepest - 1)

    def _judge(self, name: str) -> None:
        there = self.stat(name)
        if there is not None:
            _judge(self.path / name, there)
            if stat.S_ISDIR(there.st_mode):
                raise StateError(f"{self.path / name} is a folder, not a file", _REMOVE)


def existing(path: Path) -> Folder | None:
    """The folder, open; None when there is none. Raises `StateError` for what is not a folder of this user."""
    return _found(path, path)


def made(path: Path) -> Folder:
    """The folder, open, made if need be. Raises `OSError` when that cannot be done, and `StateError`."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    return _open_folder(path, path)


@contextlib.contextmanager
def inner(path: Path) -> Iterator[Folder | None]:
    """A folder in a state folder, such as `.kpipe/logs`: neither of the two may be a link. None when there is none."""
    outer = existing(path.parent)
    folder = None
    if outer is not None:
        with outer:
            folder = outer.find(path.name)
    with folder or contextlib.nullcontext():
        yield folder


@contextlib.contextmanager
def made_inner(path: Path) -> Iterator[Folder]:
    """The same, made if need be."""
    with made(path.parent) as outer:
        folder = outer.sub(path.name)
    with folder:
        yield folder


def _found(path: Path, name: str | Path, dir_fd: int | None = None) -> Folder | None:
    try:
        return _open_folder(path, name, dir_fd)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> StateError:
    return StateError(f"{path} cannot be opened: {problem.strerror}", "check who owns it and who may read it")


def _open_folder(path: Path, name: str | Path, dir_fd: int | None = None) -> Folder:
    try:
        fd = os.open(name, _FOLDER, dir_fd=dir_fd)
    except OSError as problem:
        if problem.errno in _REFUSED:
            _refuse_folder(path, name, dir_fd)
        raise
    try:
        _judge(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return Folder(path, fd)


def _refuse_folder(path: Path, name: str | Path, dir_fd: int | None) -> None:
    """Raise `StateError` with the reason why it could not be opened, if that is what is there."""
    try:
        there = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return
    _judge(path, there)
    if not stat.S_ISDIR(there.st_mode):
        raise StateError(f"{path} is a file, not a folder", "move it away: kpipe makes a folder of that name")


def _judge(path: Path, there: os.stat_result) -> None:
    """Raise `StateError` for a link, a special file, and what belongs to another user."""
    if stat.S_ISLNK(there.st_mode):
        raise StateError(
            f"{path} is a symbolic link, and kpipe follows none where it keeps its state",
            "look where it leads, and remove it; KPIPE_STATE_DIR names another folder for the state",
        )
    if not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        raise StateError(f"{path} is neither a file nor a folder", _REMOVE)
    if there.st_uid not in (os.geteuid(), 0):
        raise StateError(
            f"{path} belongs to {_name(there.st_uid)}, and kpipe runs as {_name(os.geteuid())}",
            f"run it as {_name(there.st_uid)}, or let KPIPE_STATE_DIR name another folder for the state",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
