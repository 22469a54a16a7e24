"""The local broker's data folder: formatted once, by Kafka's own tool, in one step."""

from __future__ import annotations

import base64
import fcntl
import secrets
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.brokers import diagnose
from orchestrator.brokers.distribution import Kafka
from orchestrator.brokers.jvm import format_argv
from orchestrator.brokers.model import PRIVATE, Notify, Progress
from orchestrator.brokers.ports import Ports
from orchestrator.brokers.settings import DATA, server_properties
from orchestrator.errors import BrokerError

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
    if (home / DATA / _META).is_file():
        return
    if (home / DATA).exists() and any((home / DATA).iterdir()):
        raise BrokerError(
            f"{home / DATA} holds data but no {_META}: Kafka can't tell what it is",
            "move that folder away: Kafka starts empty then",
        )
    notify(Progress("Preparing Kafka's data folder"))
    _clean(home)
    aside = home / f"{_UNFINISHED}{secrets.token_hex(4)}"
    properties = aside.with_suffix(".properties")
    properties.write_text(server_properties(ports, aside.name), "ascii")
    _run_tool(format_argv(java, kafka, new_cluster_id(), properties.name), home, environment)
    if not (aside / _META).is_file():
        raise BrokerError(f"Kafka's storage tool made no {_META} for {home / DATA}")
    if (home / DATA).exists():
        (home / DATA).rmdir()
    aside.rename(home / DATA)
    _clean(home)


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


def _clean(home: Path) -> None:
    """Remove what unfinished runs left."""
    for leftover in home.glob(f"{_UNFINISHED}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def new_cluster_id() -> str:
    """A random id in Kafka's form: 16 bytes, URL-safe base64 without padding, not starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text


def cluster_id(home: Path) -> str:
    """The formatted folder's cluster id; "" when there is none."""
    try:
        lines = (home / DATA / _META).read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition("=")[2] for line in lines if line.startswith("cluster.id=")), "")


def check_unused(home: Path) -> None:
    """Raise `BrokerError` when some process has the data folder open.

    Kafka takes the same lock (a POSIX record lock on `.lock`), but only after it began to repair the metadata
    log: a second Kafka would damage the data under the first one before it ends with an error.
    """
    try:
        with (home / DATA / ".lock").open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except (BlockingIOError, PermissionError) as problem:
        raise BrokerError(
            f"Kafka's data folder {home / DATA} is in use by another process",
            "stop that process first; it may be a Kafka of this folder under its former name",
        ) from problem
