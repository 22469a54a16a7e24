"""The folders that kpipe keeps things in: `.kpipe` of a project, and the user's folder for sockets.

Every reader and writer of a file in them goes through this package. A project may come from somebody else, and the
folder around it may be one that others can write to, so nothing in it is taken on trust:

- no symbolic link is followed, and no FIFO, device or file of another user is opened;
- what kpipe makes is readable by this user only: folders 0700, files 0600;
- a file is replaced in one step, and read up to a limit;
- a folder is emptied only when kpipe's marker is in it.
"""

from __future__ import annotations

from orchestrator.state.folder import Folder, StateError, existing, inner, made, made_inner
from orchestrator.state.marker import MARKER, check_own, claimed, is_marked, require_marker, require_own

__all__ = [
    "MARKER",
    "Folder",
    "StateError",
    "check_own",
    "claimed",
    "existing",
    "inner",
    "is_marked",
    "made",
    "made_inner",
    "require_marker",
    "require_own",
]
