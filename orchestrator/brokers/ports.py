"""Two free ports on loopback, the same as last time where they are free again."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import BrokerError
from orchestrator.state import existing, made

LOOPBACK = "127.0.0.1"
# Below the range that systems hand out for outgoing connections (32768 and up on Linux, 49152 on macOS):
# one of those could sit on the port when the broker comes back.
_RANGE = range(20000, 30000)
_ATTEMPTS = 200


class Ports(NamedTuple):
    """`broker` is where clients connect; `controller` is Kafka's own KRaft listener."""

    broker: int
    controller: int


def choose_ports(remembered: Path) -> Ports:
    """Free ports, remembered in that file, so that other programs' settings stay right between runs."""
    ports = remembered_ports(remembered)
    if ports is None or not all(map(is_free, ports)):
        ports = Ports(*free_ports(len(Ports._fields)))
        with made(remembered.parent) as folder:
            folder.write(remembered.name, json.dumps(ports._asdict()))
    return ports


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    # BSD and macOS would let a second server bind next to one on 0.0.0.0: look for that one first.
    if accepts(port):
        return False
    with socket.socket() as probe:
        # Java's server sockets set it too: connections of the last run in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether some server listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((LOOPBACK, port)) == 0


def remembered_ports(path: Path) -> Ports | None:
    """What `choose_ports` wrote there; None when there is nothing that makes sense."""
    folder = existing(path.parent)
    if folder is None:
        return None
    with folder:
        saved: Any = folder.read_json(path.name)
    try:
        ports = Ports(saved["broker"], saved["controller"])
    except (KeyError, TypeError):
        return None
    valid = all(type(port) is int and 0 < port < 65536 for port in ports) and ports.broker != ports.controller
    return ports if valid else None


def free_ports(count: int) -> list[int]:
    """So many different ports on loopback that are free now. Raises `BrokerError`."""
    found: list[int] = []
    for port in random.sample(_RANGE, _ATTEMPTS):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise BrokerError(f"not enough free ports between {_RANGE.start} and {_RANGE.stop}")
