"""Ask a child that does not report by itself whether it is ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from orchestrator.supervisor.background import in_background
from orchestrator.supervisor.spec import Probe

#: Seconds between two looks at a child that starts, at one that is ready, and for an answer.
STARTING_PAUSE = 0.1
READY_PAUSE = 10.0
PATIENCE = 3.0
#: A child of which nothing can be asked counts as ready once it has run for so many seconds.
ALIVE_AFTER = 1.0
#: A ready child is not ready any more after this many looks in a row that failed.
MISSES = 3

_HOSTS = ("127.0.0.1", "::1")


async def watch(probe: Probe, tell: Callable[[bool], None]) -> None:
    """Call `tell` whenever the answer changes, until cancelled."""
    if probe.check is None and probe.port is None:
        await asyncio.sleep(ALIVE_AFTER)
        tell(True)
        return
    while not await passes(probe):
        await asyncio.sleep(STARTING_PAUSE)
    tell(True)
    if probe.port is not None:
        await _keep_watching(probe, tell)


async def _keep_watching(probe: Probe, tell: Callable[[bool], None]) -> None:
    misses = 0
    while True:
        await asyncio.sleep(READY_PAUSE if misses == 0 else PATIENCE)
        if await passes(probe):
            if misses >= MISSES:
                tell(True)
            misses = 0
            continue
        misses += 1
        if misses == MISSES:
            tell(False)


async def passes(probe: Probe) -> bool:
    """One look."""
    if probe.check is not None:
        return await in_background(probe.check)
    assert probe.port is not None
    for host in _HOSTS:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            if await asyncio.wait_for(_answers(host, probe.port, probe.path), PATIENCE):
                return True
    return False


async def _answers(host: str, port: int, path: str | None) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if path is None:
            return True
        request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: kpipe\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        status = await reader.readuntil(b"\n")
        return status.split()[1:2] != [] and status.split()[1].startswith(b"2")
    finally:
        writer.close()
