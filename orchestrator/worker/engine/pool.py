"""Running several events of one handler at once: in threads, or, for an `async def`, in one event loop.

Whoever starts an event gets its answer from `answers`, in whatever order they come; `on_answer` runs after each, in the
thread that had it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from orchestrator.event import Event
from orchestrator.worker.runners.base import Answer, Runner

T = TypeVar("T")

#: How long one thread may keep the interpreter from another that wants it (seconds). Python's 5 ms would be felt: all
#: that could start meanwhile waits, and what started together ends together and waits again.
_SWITCH_SECONDS = 0.0005


class Pool(Protocol[T]):
    """Runs events; `start` never blocks. `size` is how many it takes at once, and may change.

    `outside`: events run outside of the worker's process. It ends those that take too long itself, and none can harm
    the worker.
    """

    answers: SimpleQueue[tuple[T, Answer]]
    outside: bool
    #: What ended a thread that events need: none of those comes back.
    error: BaseException | None

    @property
    def size(self) -> int: ...

    def start(self, event: Event, token: T) -> None:
        """Run `event`; its answer comes back with `token`."""
        ...

    def close(self) -> None:
        """Start nothing further. What runs is left alone: it belongs to the handler."""
        ...


class ThreadPool(Generic[T]):
    """`size` threads with one event at a time each. They are daemons: one that never returns keeps no process alive."""

    outside = False
    error: BaseException | None = None

    def __init__(self, runner: Runner, size: int, on_answer: Callable[[], None]) -> None:
        self.answers: SimpleQueue[tuple[T, Answer]] = SimpleQueue()
        self.size = size
        self._runner = runner
        self._on_answer = on_answer
        self._work: SimpleQueue[tuple[Event, T] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"handler-{n}", daemon=True) for n in range(size)]
        for thread in self._threads:
            thread.start()

    def start(self, event: Event, token: T) -> None:
        self._work.put((event, token))

    def close(self) -> None:
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            event, token = work
            self.answers.put((token, self._runner.run(event)))
            self._on_answer()
        self._runner.close()


class AsyncPool(Generic[T]):
    """One thread with one event loop, in which every started event is a task."""

    outside = False
    error: BaseException | None = None

    def __init__(self, runner: Runner, size: int, on_answer: Callable[[], None]) -> None:
        self.size = size
        self.answers: SimpleQueue[tuple[T, Answer]] = SimpleQueue()
        self._runner = runner
        self._on_answer = on_answer
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: deque[tuple[Event, T]] = deque()
        self._called = False
        sys.setswitchinterval(_SWITCH_SECONDS)
        threading.Thread(target=self._loop.run_forever, name="handler-loop", daemon=True).start()

    def start(self, event: Event, token: T) -> None:
        self._starting.append((event, token))
        # Waking the loop costs a system call: one for all that are started until it looks.
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._begin)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _begin(self) -> None:
        self._called = False  # before it looks: whoever comes after that calls again
        while self._starting:
            task = self._loop.create_task(self._run(*self._starting.popleft()))
            self._tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._tasks.discard)

    async def _run(self, event: Event, token: T) -> None:
        self.answers.put((token, await self._runner.run_async(event)))
        self._on_answer()


def pool_for(runner: Runner, size: int, on_answer: Callable[[], None]) -> Pool[Any]:
    """The pool that suits the handler, for at most `size` events at once."""
    own = runner.pool(on_answer)
    if own is not None:
        return own
    return AsyncPool(runner, size, on_answer) if runner.is_async else ThreadPool(runner, size, on_answer)
