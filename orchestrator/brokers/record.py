"""`.kpipe/broker.json`: where this project's broker is. Every command that talks to Kafka reads it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from orchestrator.brokers.model import BrokerRecord
from orchestrator.brokers.ports import LOOPBACK
from orchestrator.brokers.process import MOST, broker_runs
from orchestrator.errors import BrokerError
from orchestrator.state import Folder, StateError, claimed, existing

FILE = "broker.json"
#: The folder of the local broker.
HOME = "broker"
#: Held while a broker is started.
LOCK = "broker.lock"
_SEAL = "seal"
_LONGEST = 200


def recorded(state_dir: Path) -> BrokerRecord | None:
    """The broker that runs for this project, or None.

    A record whose process is gone (killed, or its id now belongs to another program) counts as none; so does
    one that makes no sense. Nothing is connected to, and nothing is changed. Raises `StateError` as `read` does.
    """
    record = read(state_dir)
    if record is None or record.kind != "local":
        return record
    return record if record.pid is not None and broker_runs(record.pid, home(state_dir)) else None


def home(state_dir: Path) -> Path:
    """The local broker's own folder: its configuration, its data, and the mark its process is known by."""
    return state_dir.resolve() / HOME


def read(state_dir: Path) -> BrokerRecord | None:
    """What the file says, true or not; None when there is no file or it makes no sense.

    Raises `StateError` when the folder or the file is not this user's.
    """
    folder = existing(state_dir)
    if folder is None:
        return None
    with folder:
        try:
            return _checked(folder.read_json(FILE), folder)
        except FileNotFoundError:  # without the lock file there is no seal
            return None
        except OSError as problem:
            raise StateError(
                f"{folder.path / FILE} can't be read: {problem.strerror}", "check who owns it"
            ) from problem
        except (ValueError, KeyError, TypeError):
            return None


def write(state_dir: Path, record: BrokerRecord) -> None:
    """Replace the file in one step, readable by this user only. Raises `BrokerError`."""
    with _problems_in(state_dir), claimed(state_dir) as folder:
        values = asdict(record)
        if record.kind == "docker":
            values[_SEAL] = _seal(folder, make=True)
        folder.write(FILE, json.dumps(values))


def remove(state_dir: Path) -> None:
    """Fine when there is none. Raises `BrokerError`."""
    with _problems_in(state_dir):
        folder = existing(state_dir)
        if folder is not None:
            with folder:
                folder.remove(FILE)


@contextmanager
def _problems_in(state_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else str(problem)
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space" if full else "check who owns that folder"
        raise BrokerError(f"{state_dir / FILE} can't be written: {reason}", hint) from problem


def _checked(value: Any, folder: Folder) -> BrokerRecord:
    """Raises ValueError, KeyError or TypeError for what `write` does not write."""
    if value["kind"] not in ("local", "docker") or value["started_by"] not in ("up", "broker"):
        raise ValueError("not a broker of kpipe")
    for name, least in (("pid", 2), ("owner_pid", 1)):  # in a container `kpipe up` itself may be process 1
        if value.get(name) is not None and not (type(value[name]) is int and least <= value[name] < MOST):
            raise ValueError(f"{name} is no process id")
    for name in ("cluster_id", "version"):
        if not (isinstance(value.get(name, ""), str) and len(value.get(name, "")) <= _LONGEST):
            raise ValueError(f"{name} is no short text")
    _check_address(value["address"])
    if value["kind"] == "docker" and value[_SEAL] != _seal(folder, make=False):
        raise ValueError("written on another machine, or by somebody else")
    fields_here = {field.name for field in fields(BrokerRecord)}
    return BrokerRecord(**{name: one for name, one in value.items() if name in fields_here})


def _check_address(address: Any) -> None:
    """A broker that kpipe runs is on this machine, always by the same address."""
    host, _, port = str(address).rpartition(":")
    if host != LOOPBACK or not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
        raise ValueError("no address on this machine")


def _seal(folder: Folder, *, make: bool) -> str:
    """What cannot be copied with the folder: when the broker's lock file was made, in nanoseconds.

    A local broker is known by its process. For one in Docker, this shows that the record was written here, and did not
    come with a checkout: a file's change time cannot be set, and nothing writes to that file. Raises `OSError`.
    """
    handle = folder.open(LOCK, os.O_RDWR | os.O_CREAT if make else os.O_RDONLY)
    try:
        return str(os.fstat(handle).st_ctime_ns)
    finally:
        os.close(handle)
