"""Handlers of the kind `python: module:function`: found, called, and their answer read."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed, classify
from orchestrator.errors import HandlerError
from orchestrator.event import Emit, Event
from orchestrator.outside import shown
from orchestrator.worker.runners.base import Inline, Isolated


class PythonHandler:
    """One function, sync or async. Any thread may call it: an async function's event loop is the thread's own."""

    alone: Isolated | None = None
    has_pool = False

    def __init__(
        self,
        function: Callable[[Event], Any],
        timeout: float | None,
        unavailable: tuple[type[BaseException], ...] = (),
    ) -> None:
        """`timeout` in seconds cancels an async handler; None leaves it alone. A sync one cannot be cancelled."""
        self._function = function
        self.inline = Inline(function, self.read, self.blame)
        self._timeout = timeout
        self._unavailable = unavailable
        #: An event loop for each thread that needed one.
        self._local = threading.local()

    def pool(self, on_answer: Callable[[], None]) -> None:
        """Threads, or one event loop, as for any runner."""

    @property
    def is_async(self) -> bool:
        """Whether calling the function gives a coroutine, as far as can be told before calling it."""
        call = getattr(self._function, "__call__", None)  # noqa: B004 - an object's own `async def __call__`
        return inspect.iscoroutinefunction(self._function) or inspect.iscoroutinefunction(call)

    async def run_async(self, event: Event) -> list[Emit] | Failed:
        """The same in the caller's event loop, for an async function."""
        try:
            answer = self._function(event)
            return _emits(await self._awaited(answer) if inspect.isawaitable(answer) else answer)
        except _DeadlineMissed:
            return self._too_late()
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return classify(e, self._unavailable)  # something that it waited for was cancelled
        except BaseException as e:  # noqa: BLE001 - as in `run`
            return classify(e, self._unavailable)

    def run(self, event: Event) -> list[Emit] | Failed:
        """Handle one event. Never raises: whatever the function raises, `sys.exit()` included, is an outcome."""
        try:
            return self.read(self._function(event))
        except BaseException as e:  # noqa: BLE001 - the handler's failure is data here, reported by the letter or log
            return self.blame(e)

    def read(self, answer: Any) -> list[Emit] | Failed:
        """What the function's `answer` says. Raises whatever the handler does while it is awaited or iterated over."""
        if answer is None:
            return []
        # Asked of the answer, not of the function: a wrapper or an object with an async `__call__` is async too.
        return _emits(self._finished(answer) if inspect.isawaitable(answer) else answer)

    def blame(self, error: BaseException) -> Failed:
        """What it means that the function, or `read`, raised this."""
        return self._too_late() if isinstance(error, _DeadlineMissed) else classify(error, self._unavailable)

    def close(self) -> None:
        """Close the calling thread's event loop."""
        runner = getattr(self._local, "runner", None)
        if runner is not None:
            runner.close()

    def _too_late(self) -> Failed:
        return Failed("timeout", f"no answer within {self._timeout:g} s", "Timeout")

    def _finished(self, answer: Awaitable[Any]) -> Any:
        runner = getattr(self._local, "runner", None)
        if runner is None:
            runner = self._local.runner = asyncio.Runner()
        return runner.run(self._awaited(answer))

    async def _awaited(self, answer: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return await answer
        except TimeoutError:
            # The handler's own TimeoutError means that something is away; ours that it took too long.
            if limit.expired():
                raise _DeadlineMissed from None
            raise


class _DeadlineMissed(Exception):
    """An async handler was cancelled at its deadline."""


def _emits(answer: Any) -> list[Emit] | Failed:
    if answer is None:
        return []
    if isinstance(answer, Emit):
        return [answer]
    if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | dict):
        emits = list(answer)
        if all(isinstance(e, Emit) for e in emits):
            return emits
        answer = next(e for e in emits if not isinstance(e, Emit))
    wanted = "expected Emit, an iterable of Emit, or None"
    return Failed("output", f"the handler returned {type(answer).__name__}; {wanted}", "TypeError")


def load_python(handler: Handler, base: Path) -> PythonHandler:
    """Import `module:function` with the pipeline's folder leading `sys.path`. Raises HandlerError."""
    if str(base) not in sys.path[:1]:
        sys.path.insert(0, str(base))
    target = handler.target if isinstance(handler.target, str) else ""
    name = shown(target)
    function = _resolve(target, f"handler {handler.name}: `python: {name}`", base)
    if not callable(function):
        raise HandlerError(f"handler {handler.name}: {name} is not a function")
    if inspect.isasyncgenfunction(function):
        raise HandlerError(f"handler {handler.name}: {name} is an async generator", "return a list instead")
    timeout = None if handler.timeout == float("inf") else handler.timeout
    return PythonHandler(function, timeout, _classes(handler, base))


def _classes(handler: Handler, base: Path) -> tuple[type[BaseException], ...]:
    found = []
    for name in handler.unavailable:
        kind = _resolve(name, f"handler {handler.name}: `unavailable: {shown(name)}`", base)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise HandlerError(f"handler {handler.name}: `unavailable: {shown(name)}` is not an exception class")
        found.append(kind)
    return tuple(found)


def _resolve(target: str, what: str, base: Path) -> Any:
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name and (module_name == e.name or module_name.startswith(e.name + ".")):
            raise HandlerError(f"{what}: there is no module {module_name}", f"looked in {base} first") from e
        raise HandlerError(f"{what}: importing {module_name} failed: {e}", _where(e)) from e
    except BaseException as e:
        raise HandlerError(f"{what}: importing {module_name} failed: {type(e).__name__}: {e}", _where(e)) from e
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise HandlerError(f"{what}: {module_name} has no {attribute}", f"it is looked up in {found!r}")
        found = getattr(found, part)
    return found


def _where(error: BaseException) -> str:
    """The file and line of the user's code that failed while it was imported."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"at {error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    return f"at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
