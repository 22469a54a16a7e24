"""Is a port free, and if not, who has it."""

from __future__ import annotations

import errno
import socket

_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


def in_use(port: int) -> bool:
    """Whether something on this machine already listens on `port` of the loopback interface."""
    return any(_accepts(family, host, port) for family, host in _LOOPBACK) or not _can_bind(port)


def holder(port: int) -> str:
    """The process that listens on `port`, as `name (process N)`; "" when the system does not tell."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:  # macOS tells root only; or the process ended meanwhile
        pass
    return ""


def _accepts(family: int, host: str, port: int) -> bool:
    # On macOS a bind to 127.0.0.1 succeeds beside a listener on 0.0.0.0, so binding alone proves nothing.
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((host, port)) == 0
    except OSError:  # no IPv6 here
        return False


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run that linger in TIME_WAIT do not hold the port for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE  # A privileged port is the service's own trouble.
    return True
