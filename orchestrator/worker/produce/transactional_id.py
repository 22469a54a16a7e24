"""Which installation this is: a part of the transactional ids, the same after every restart and on no other machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from orchestrator.config.model import Handler
from orchestrator.errors import UsageError
from orchestrator.state import Folder, StateError, claimed

VARIABLE = "KPIPE_INSTANCE"
#: Kafka takes longer ones; a group's name has to fit before it.
MOST_CHARS = 200
_KEPT = "instance"


def instance_id(environ: Mapping[str, str], state_dir: Path) -> str:
    """What `KPIPE_INSTANCE` says, else what is kept in `state_dir` (`.kpipe/`), made once. Raises UsageError."""
    given = environ.get(VARIABLE, "").strip()
    if given:
        if not _is_name(given):
            raise UsageError(f"{VARIABLE} is not a name of up to {MOST_CHARS} printable characters")
        return given
    try:
        with claimed(state_dir) as folder:
            return _read(folder) or _make(folder)
    except OSError as e:
        raise UsageError(
            f"{state_dir / _KEPT} cannot be written: {e.strerror}",
            f"`guarantee: exactly-once` needs a name for this machine: set {VARIABLE}, to another one on each",
        ) from e


def transactional_id(handler: Handler, instance: str, slot: int) -> str:
    """The name that one replica writes under; whoever opens it next ends what the former one left open."""
    return f"{handler.group}.{instance}.{slot}"


def _read(folder: Folder) -> str:
    """ "" when there is none. Raises `StateError` for what is no name."""
    try:
        name = (folder.read(_KEPT) or b"").decode().strip()
    except ValueError:
        name = "\0"
    if not _is_name(name):
        raise StateError(
            f"{folder.path / _KEPT} holds no name of up to {MOST_CHARS} printable characters",
            "remove that file: a new one is made (transactions that are open now then end by their timeout)",
        )
    return name


def _is_name(text: str) -> bool:
    return len(text) <= MOST_CHARS and text.isprintable()


def _make(folder: Folder) -> str:
    """Several workers may start at once: the first link wins, and all take what it says."""
    draft = f".{_KEPT}.{os.getpid()}"
    folder.write(draft, secrets.token_hex(6) + "\n")
    try:
        os.link(draft, _KEPT, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)
    except FileExistsError:
        if not _read(folder):
            folder.rename(draft, _KEPT)
    finally:
        folder.remove(draft)
    return _read(folder)
