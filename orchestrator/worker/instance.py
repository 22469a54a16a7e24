"""Which installation this is: a part of the transactional ids, the same after every restart and on no other machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from orchestrator.config.model import Handler
from orchestrator.errors import UsageError

VARIABLE = "KPIPE_INSTANCE"
#: Kafka takes longer ones; a group's name has to fit before it.
MOST_CHARS = 200


def instance_id(environ: Mapping[str, str], state_dir: Path) -> str:
    """What `KPIPE_INSTANCE` says, else what is kept in `state_dir` (`.kpipe/`), made once. Raises UsageError."""
    given = environ.get(VARIABLE, "").strip()
    if given:
        if len(given) > MOST_CHARS or not given.isprintable():
            raise UsageError(f"{VARIABLE} is not a name of up to {MOST_CHARS} printable characters")
        return given
    kept = state_dir / "instance"
    try:
        return _read(kept) or _make(kept)
    except OSError as e:
        raise UsageError(
            f"{kept} cannot be written: {e.strerror}",
            f"`guarantee: exactly-once` needs a name for this machine: set {VARIABLE}, to another one on each",
        ) from e


def transactional_id(handler: Handler, instance: str, slot: int) -> str:
    """The name that one replica writes under; whoever opens it next ends what the former one left open."""
    return f"{handler.group}.{instance}.{slot}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def _make(path: Path) -> str:
    """Several workers may start at once: the first link wins, and all take what it says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".instance.{os.getpid()}")
    draft.write_text(secrets.token_hex(6) + "\n")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        if not _read(path):
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return _read(path)
