"""A handler's `memory` limit: held by the system where it can, and looked at from outside where it cannot.
And how often a worker looks for garbage.

On Linux the limit is set on the process's private memory (RLIMIT_DATA), counted from what it uses when the handler is
loaded, so that one allocation too many fails at once with a MemoryError. What grows past it by other ways is noticed by
looking at the resident memory.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import sys

import psutil

from orchestrator.errors import HandlerError

_PAGE = resource.getpagesize()
#: A worker with less room than this above what it uses itself could not even handle one event (bytes).
_LEAST_ROOM = 16_000_000
#: So many new objects, and it looks for garbage; Python's own is 700. A worker holds thousands of events for a moment,
#: and a collection finds all of them in use.
_YOUNG = 20_000


def collect_seldom(default: tuple[int, int, int]) -> None:
    """Look for garbage less often, and never in what was there at the start; `default` was set before the handler.

    Only cycles are garbage; nothing of kpipe's that an event leaves behind is one. A handler that chose for itself when
    it was loaded keeps what it chose.
    """
    if gc.isenabled() and gc.get_threshold() == default:
        gc.set_threshold(_YOUNG, *default[1:])
        gc.collect()
        gc.freeze()


def resident(pid: int) -> int:
    """Bytes of memory that the process uses; 0 when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def confine(limit: int, handler: str) -> None:
    """Keep this process within `limit` bytes. Raises HandlerError when it uses (nearly) as many already."""
    used = int(psutil.Process().memory_info().rss)
    if used + _LEAST_ROOM > limit:
        raise HandlerError(
            f"handler {handler}: `memory` is {limit // 1_000_000} MB, and its process uses {used // 1_000_000} MB"
            " before the first event",
            f"give it {(used + 4 * _LEAST_ROOM) // 1_000_000}MB or more",
        )
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError), open("/proc/self/statm") as statm:  # noqa: PTH123
            data = int(statm.read().split()[5]) * _PAGE
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (data + limit - used, hard))


def release() -> None:
    """Lift the system's limit, so that there is memory to end in order."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
