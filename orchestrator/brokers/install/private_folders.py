"""Folders whose files are run: nobody but this user (and root, who can do everything) may write in them."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from orchestrator.errors import BrokerError

_OTHERS_WRITE = 0o022


def refuse_foreign(folder: Path) -> None:
    """Raise `BrokerError` where somebody else owns the folder, or a link in its place; fine where there is nothing."""
    try:
        owners = {folder.lstat().st_uid, folder.stat().st_uid}
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # there is nothing, or nothing that could be run
    for owner in owners - {os.geteuid(), 0}:
        raise BrokerError(
            f"{folder} belongs to another user (uid {owner}): what is in it is not run",
            "set KPIPE_CACHE to a folder of your own",
        )


def tighten(folder: Path, keep: int = 0o700) -> bool:
    """Take from the folder what others may do beyond `keep`; whether others could write in it until now.

    Raises `BrokerError` for somebody else's folder, and where others can write in it all the same. A folder like /tmp
    (with the sticky bit) stays as it is: what is in it has an owner of its own.
    """
    refuse_foreign(folder)
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_ISVTX:
        return False
    if mode & ~keep & 0o077 and found.st_uid == os.geteuid():
        with contextlib.suppress(OSError):  # a file system that is read-only, or has no permissions
            folder.chmod(mode & (keep | ~0o777))
    if folder.stat().st_mode & _OTHERS_WRITE:
        raise BrokerError(
            f"others can write in {folder}: what is in it is not run",
            f"`chmod go-w {folder}`, or set KPIPE_CACHE to a folder of your own",
        )
    return bool(mode & _OTHERS_WRITE)
