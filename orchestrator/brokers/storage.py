"""The local broker's data folder: formatted once, by Kafka's own tool, in one step."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import stat
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.brokers import diagnose
from orchestrator.brokers.install.distribution import Kafka
from orchestrator.brokers.jvm import format_argv
from orchestrator.brokers.model import PRIVATE, Notify, Progress
from orchestrator.brokers.ports import Ports
from orchestrator.brokers.settings import DATA, server_properties
from orchestrator.errors import BrokerError
from orchestrator.state import Folder, existing, inner

PORTS = "ports.json"
_UNFINISHED = "unfinished-"
_META = "meta.properties"
_TIMEOUT_SECONDS = 60.0


def format_once(
    home: Path, java: Path, kafka: Kafka, ports: Ports, environment: Mapping[str, str], notify: Notify
) -> None:
    """Make `home/data` a Kafka node's folder unless it is one.

    The tool works on a folder aside that gets its name afterwards, so that a run which was killed leaves
    nothing that looks formatted. That folder's name is new every time: the tool of such a run may still be at work.
    """
    with _opened(home) as folder:
        if _has_meta(folder, DATA):
            return
        if (data := folder.find(DATA)) is not None:
            with data:
                _check_empty(data)
        notify(Progress("Preparing Kafka's data folder"))
        _clean(folder)
        aside = f"{_UNFINISHED}{secrets.token_hex(4)}"
        properties = f"{aside}.properties"
        folder.write(properties, server_properties(ports, aside))
        _run_tool(format_argv(java, kafka, new_cluster_id(), properties), home, environment)
        if not _has_meta(folder, aside):
            raise BrokerError(f"Kafka's storage tool made no {_META} for {home / DATA}")
        folder.rename(aside, DATA)
        _clean(folder)


def _opened(home: Path) -> Folder:
    folder = existing(home)
    if folder is None:
        raise BrokerError(f"{home} is gone", "run the command again")
    return folder


def _has_meta(folder: Folder, data: str) -> bool:
    inside = folder.find(data)
    if inside is None:
        return False
    with inside:
        there = inside.stat(_META)
    return there is not None and stat.S_ISREG(there.st_mode)


def _check_empty(data: Folder) -> None:
    if data.names():
        raise BrokerError(
            f"{data.path} holds data but no {_META}: Kafka can't tell what it is",
            "move that folder away: Kafka starts empty then",
        )


def _run_tool(argv: Sequence[str], home: Path, environment: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            argv, cwd=home, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", umask=PRIVATE, timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as problem:
        raise BrokerError(f"Kafka's storage tool did not end within {_TIMEOUT_SECONDS:g} s") from problem
    if done.returncode != 0:
        raise diagnose.explain_tool(done.stdout + done.stderr, home / DATA)


def _clean(folder: Folder) -> None:
    """Remove what unfinished runs left."""
    for name in folder.names():
        if name.startswith(_UNFINISHED):
            with contextlib.suppress(OSError):
                folder.delete(name)


def new_cluster_id() -> str:
    """A random id in Kafka's form: 16 bytes, URL-safe base64 without padding, not starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text


def cluster_id(home: Path) -> str:
    """The formatted folder's cluster id; "" when there is none."""
    text = ""
    with inner(home / DATA) as folder, contextlib.suppress(OSError, ValueError):
        text = ((folder.read(_META) if folder else None) or b"").decode("utf-8")
    return next((line.partition("=")[2] for line in text.splitlines() if line.startswith("cluster.id=")), "")


def check_unused(home: Path) -> None:
    """Raise `BrokerError` when some process has the data folder open.

    Kafka takes the same lock (a POSIX record lock on `.lock`), but only after it began to repair the metadata
    log: a second Kafka would damage the data under the first one before it ends with an error.
    """
    with inner(home / DATA) as folder:
        if folder is None:
            return
        try:
            with os.fdopen(folder.open(".lock", os.O_RDWR), "r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return
        except (BlockingIOError, PermissionError) as problem:
            raise BrokerError(
                f"Kafka's data folder {home / DATA} is in use by another process",
                "stop that process first; it may be a Kafka of this folder under its former name",
            ) from problem
