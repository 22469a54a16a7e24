"""Accepting connections on one listening socket, never more than it may have.

Rules of this file:
- A client never ends the listener. An error of `accept` is the network's or the system's, not a bug.
- At the limit the connection that has been idle for longest makes way for the new one. While none is idle, new ones
  wait in the kernel's queue.
- Out of descriptors or memory: half of the connections may stay, none is accepted for a second, and for a minute the
  limit is what was left.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self

from orchestrator.serving.connection import ClientConnection
from orchestrator.serving.site import Site

#: Seconds after an overload: nothing is accepted, the limit is lower, no further message.
_PAUSE = 1.0
_CAUTION = 60.0
_SILENCE = 60.0
#: What a connection that ended before it was accepted leaves behind (accept(2)): there may be a next one.
_GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ETIMEDOUT})


class Server:
    """Serves `site` inside `async with`. Owns `listening`, which has to listen already. `say` is told of overloads."""

    def __init__(self, listening: socket.socket, site: Site, say: Callable[[str], None]) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._site = site
        self._say = say
        self._open: dict[asyncio.Task[None], ClientConnection] = {}
        self._silent_until = self._careful_until = 0.0
        self._most = site.limits.connections

    @property
    def port(self) -> int:
        """Of a TCP socket."""
        return int(self._listening.getsockname()[1])

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._accepting = self._loop.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accept no more; what is being answered gets a moment to end."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listening.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._site.limits.stop_seconds):
                while self._open:
                    await self._drop(len(self._open))
                    await self._change()
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(list(self._open))

    async def _accept(self) -> None:
        while True:
            await self._make_room()
            try:
                client, _ = await self._loop.sock_accept(self._listening)
            except OSError as error:
                if error.errno not in _GONE:
                    await self._recover(error)
                continue
            connection = ClientConnection(client, self._site, self._changed.set)
            task = self._loop.create_task(connection.run())
            self._open[task] = connection
            task.add_done_callback(self._closed)
            await asyncio.sleep(0)  # many at once must not keep the event loop from the rest of its work

    async def _make_room(self) -> None:
        if self._most < self._site.limits.connections and self._loop.time() >= self._careful_until:
            self._most = self._site.limits.connections
        while len(self._open) >= self._most:
            self._tell(f"{len(self._open)} connections are open: idle ones are closed for new ones")
            if not await self._drop(len(self._open) - self._most + 1):
                await self._change()

    async def _recover(self, error: OSError) -> None:
        self._most = max(1, len(self._open) // 2)
        self._careful_until = self._loop.time() + _CAUTION
        closed = await self._drop(len(self._open) - self._most)
        self._tell(
            f"no connection can be accepted ({os.strerror(error.errno or 0)}): {closed} idle ones were closed, and "
            f"accepting pauses; `ulimit -n` is the number of files that may be open"
        )
        await asyncio.sleep(_PAUSE)

    async def _drop(self, most: int) -> int:
        """Close connections that are idle, those first that have been so for longest. Returns how many."""
        idle = [(c.idle_since, n, task) for n, (task, c) in enumerate(self._open.items()) if c.idle_since is not None]
        tasks = [task for _, _, task in sorted(idle)[:most]]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        return len(tasks)

    async def _change(self) -> None:
        """Wait until a connection has been closed, or has become idle."""
        self._changed.clear()
        await self._changed.wait()

    def _closed(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before it began runs no `finally`.
        connection = self._open.pop(task)
        connection.close()
        self._changed.set()
        bug = connection.bug if task.cancelled() else task.exception() or connection.bug
        if bug is not None:
            self._say(f"a request failed, please report it:\n{''.join(traceback.format_exception(bug)).rstrip()}")

    def _tell(self, text: str) -> None:
        if (now := self._loop.time()) >= self._silent_until:
            self._silent_until = now + _SILENCE
            self._say(text)
