"""What runs a handler's events: one class per kind, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from orchestrator.config.model import Handler, Pipeline
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Emit, Event
from orchestrator.worker.engine.flow_control import DependencyProbe

if TYPE_CHECKING:
    from orchestrator.worker.engine.pool import Pool

Answer = list[Emit] | Failed


class Inline(NamedTuple):
    """A handler's function itself, for a caller that runs many events and spares a call for each."""

    #: The function: an event in, anything out. It may raise.
    call: Callable[[Event], Any]
    #: What it returned, as an outcome.
    read: Callable[[Any], Answer]
    #: What it raised, as an outcome.
    blame: Callable[[BaseException], Failed]


class Isolated(Protocol):
    """Runs one event in a process that may die of it."""

    def run(self, event: Event) -> Answer:
        """What the handler made of it, or a `Failed` with `crash` or `hang`. Never raises."""
        ...

    def stop(self) -> None:
        """End what runs now, from another thread."""
        ...

    def close(self) -> None: ...


class Runner(Protocol):
    """Runs one event of a handler and never raises: whatever goes wrong is an outcome."""

    @property
    def is_async(self) -> bool:
        """Whether many events are best run by `run_async`, in one event loop."""
        ...

    @property
    def inline(self) -> Inline | None:
        """The function behind `run`; None: there is only `run`."""
        ...

    @property
    def alone(self) -> Isolated | None:
        """Runs one event outside of the worker's process; None: `run` does that, or the worker has to."""
        ...

    @property
    def has_pool(self) -> bool:
        """Whether `pool` makes one: then events go through it, even one at a time."""
        ...

    def pool(self, on_answer: Callable[[], None]) -> Pool[Any] | None:
        """Runs many events at once in a way of its own; None: as any runner's."""
        ...

    def run(self, event: Event) -> Answer:
        """Run one event here and now. Safe in several threads at once."""
        ...

    async def run_async(self, event: Event) -> Answer:
        """The same in the caller's event loop."""
        ...

    def close(self) -> None:
        """Give back what the calling thread holds."""
        ...


def load_runner(handler: Handler, pipeline: Pipeline) -> Runner:
    """The runner of the handler's kind. Raises HandlerError when it can't be had."""
    # Imported when needed: a worker is of one kind, and httpx takes a while to load.
    if handler.kind == "http":
        from orchestrator.worker.runners.http import HttpHandler

        return HttpHandler(handler, pipeline.name)
    if handler.kind == "exec":
        from orchestrator.worker.runners.command import command_of
        from orchestrator.worker.runners.exec import ExecHandler

        return ExecHandler(handler, command_of(handler.target, pipeline.base))
    if handler.interpreter is not None:
        from orchestrator.worker.runners.interpreter import load_foreign

        return load_foreign(handler, pipeline.base)
    from orchestrator.worker.runners.python import load_python

    return load_python(handler, pipeline.base)


def probe_of(handler: Handler, done: Callable[[], None]) -> DependencyProbe | None:
    """What finds out whether the handler's endpoint is back; None: an event has to try. `done` as in `HealthProbe`."""
    if handler.health is None:
        return None
    from orchestrator.worker.runners.http import HealthProbe

    return HealthProbe(handler, done)
