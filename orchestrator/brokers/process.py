"""Which process is a project's broker, and how it is ended.

A process id alone proves nothing: ids are reused. The broker's command line carries its folder as a system
property (`mark`). Another user may start a program with the same words, so a process is ours exactly when that argument
is there and it runs as this user.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_POLL_SECONDS = 0.02
#: Process ids are below it (pid_t).
MOST = 2**31


def mark(home: Path) -> str:
    """The argument that tells this project's broker from all other processes."""
    return f"-Dkpipe.broker={home}"


def broker_runs(pid: int, home: Path) -> bool:
    """Whether `pid` is alive and is (or, as the supervisor's shim, holds) the broker of `home`."""
    words = _said_by_proc(pid)
    if words:
        return mark(home).encode() in words
    import psutil

    try:
        process = psutil.Process(pid)
        return mark(home) in _command_line(process) and _is_ours(process)
    except psutil.NoSuchProcess:
        return False


def alive(pid: int) -> bool:
    """Whether any process has this id; a zombie is dead."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_broker(home: Path) -> int | None:
    """The process id of a broker of `home` that no record names: its starter was killed before writing one."""
    import psutil

    wanted = mark(home)
    for process in psutil.process_iter():
        try:
            words = _command_line(process)
        except psutil.NoSuchProcess:
            continue
        if wanted in words and Path(words[0]).name == "java" and _is_ours(process):
            return int(process.pid)
    return None


def birth(pid: int) -> str:
    """What tells a process from a later one with the same id, on the same machine; "" when it is not this user's.

    On Linux its start in clock ticks since the machine's own (proc(5), field 22): unlike a time of day it stays the
    same when the clock is set.
    """
    try:
        if Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
            return ""
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        pass
    import psutil

    try:
        process = psutil.Process(pid)
        return str(process.create_time()) if _is_ours(process) else ""
    except psutil.Error:
        return ""


def listens(pid: int, port: int) -> bool:
    """Whether it is this process, and no other program, that listens on `port`."""
    import psutil

    try:
        sockets = psutil.Process(pid).net_connections("inet")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def end(pid: int, home: Path, timeout: float) -> bool:
    """SIGTERM, and SIGKILL after `timeout` seconds. True when Kafka had the time to close its logs."""
    import psutil

    try:
        process = psutil.Process(pid)
        if mark(home) not in _command_line(process) or not _is_ours(process):
            return True
        process.terminate()
        if _ended(pid, timeout):
            return True
        process.kill()
    except psutil.NoSuchProcess:
        return True
    _ended(pid, timeout)
    return False


def _ended(pid: int, timeout: float) -> bool:
    """Wait until it is gone or a zombie: the one who would have to reap it may be slow, or never come (containers)."""
    deadline = time.monotonic() + timeout
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _command_line(process: psutil.Process) -> list[str]:
    """Empty for a zombie, and for a process of somebody else that may not be looked at."""
    import psutil

    try:
        return list(process.cmdline())
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return []


def _is_ours(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.uids().effective == os.geteuid())
    except psutil.Error:
        return False


def _said_by_proc(pid: int) -> list[bytes]:
    """The command line where there is a /proc: every command asks, and loading psutil takes longer than all the rest.

    Empty where there is none, for a zombie, for a process at its very beginning, and for one of another user.
    """
    try:
        if Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
            return []
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.split(b"\0") if raw else []
