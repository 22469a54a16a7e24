"""`.kpipe/broker.json`: where this project's broker is. Every command that talks to Kafka reads it."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from orchestrator.brokers.model import BrokerRecord
from orchestrator.brokers.process import broker_runs
from orchestrator.errors import BrokerError

FILE = "broker.json"


def recorded(state_dir: Path) -> BrokerRecord | None:
    """The broker that runs for this project, or None.

    A record whose process is gone (killed, or its id now belongs to another program) counts as none; so does
    one that cannot be read. Nothing is connected to, and nothing is changed.
    """
    record = read(state_dir)
    if record is None or record.kind != "local":
        return record
    return record if record.pid is not None and broker_runs(record.pid, home(state_dir)) else None


def home(state_dir: Path) -> Path:
    """The local broker's own folder: its configuration, its data, and the mark its process is known by."""
    return state_dir.resolve() / "broker"


def read(state_dir: Path) -> BrokerRecord | None:
    """What the file says, true or not; None when there is no file or it makes no sense."""
    try:
        found: Any = json.loads((state_dir / FILE).read_text("utf-8"))
        return _checked(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(state_dir: Path, record: BrokerRecord) -> None:
    """Replace the file in one step, readable by this user only. Raises `BrokerError`."""
    aside = state_dir / f".{FILE}.{secrets.token_hex(4)}"
    with _problems_in(state_dir):
        state_dir.mkdir(parents=True, exist_ok=True)
        _replace(aside, state_dir / FILE, json.dumps(asdict(record)))


def remove(state_dir: Path) -> None:
    """Fine when there is none. Raises `BrokerError`."""
    with _problems_in(state_dir):
        try:
            (state_dir / FILE).unlink(missing_ok=True)
        except NotADirectoryError:
            pass


def _replace(aside: Path, target: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def _problems_in(state_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space" if full else "check who owns that folder"
        raise BrokerError(f"{state_dir / FILE} can't be written: {reason}", hint) from problem


def _checked(found: Any) -> BrokerRecord:
    if found["kind"] not in ("local", "docker") or found["started_by"] not in ("up", "broker"):
        raise ValueError("not a broker of kpipe")
    for name in ("pid", "owner_pid"):
        if found.get(name) is not None and (type(found[name]) is not int or found[name] <= 0):
            raise ValueError(f"{name} is no process id")
    if not isinstance(found["address"], str) or not found["address"]:
        raise ValueError("no address")
    known = {field.name for field in fields(BrokerRecord)}
    return BrokerRecord(**{name: value for name, value in found.items() if name in known})
