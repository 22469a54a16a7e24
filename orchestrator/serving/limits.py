"""What one listener spends on its clients."""

from __future__ import annotations

import resource
from typing import NamedTuple

#: The share of the files that a process may open (`ulimit -n`) that one listener may take.
_SHARE = 8
_FEWEST = 4


class ListenerLimits(NamedTuple):
    """Deadlines are in seconds, and absolute: a byte now and then extends none."""

    #: Open at once. One more takes the place of the one that has been idle for longest.
    connections: int = 64
    head_bytes: int = 16_384
    headers: int = 100
    #: From the connection, or the first byte of a further request, to the end of the head.
    head_seconds: float = 10.0
    #: From the moment that the body is wanted to its end.
    body_seconds: float = 60.0
    #: Between two requests of a connection. 0: one request for each connection.
    idle_seconds: float = 0.0
    #: Until the client has taken the answer.
    answer_seconds: float = 10.0
    #: What still runs when the listener closes gets so long.
    stop_seconds: float = 1.0


def connections(most: int) -> int:
    """`most`, or less where the process may open few files: the rest of it needs some, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else max(_FEWEST, min(most, soft // _SHARE))
