"""Who is told what happens while a pipeline runs, and who waits for a detached one. Implemented by `cli`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from orchestrator.config.model import Handler, Pipeline
from orchestrator.supervisor.control.status import HandlerStatus
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.logs.files import Stream
from orchestrator.supervisor.logs.lines import Line


class Reporter(Protocol):
    """Shows what happens, and keeps it in the log of `up`. No method blocks for a slow reader, save `flush`."""

    def hear(self, fact: Fact) -> None:
        """One event of the supervisor."""

    def show(self, name: str, stream: Stream, lines: Sequence[Line]) -> None:
        """Lines that a child has printed."""

    def say(self, text: str) -> None:
        """A message for people."""

    def note(self, text: str) -> None:
        """A line for the log only."""

    def ready(self, pipeline: Pipeline, handlers: Sequence[Handler], bootstrap: str, seconds: float) -> None:
        """Every handler is ready, `seconds` after the start."""

    def ended(self, handlers: Sequence[HandlerStatus]) -> None:
        """All children have stopped."""

    def flush(self) -> None:
        """Return when everything before it is written."""

    def close(self) -> None: ...


#: Makes the reporter of one run: names of the children, folder of the logs, and what to call, in any thread, when
#: nobody reads the output any more.
OpenReporter = Callable[[Sequence[str], Path, Callable[[], None]], Reporter]


class Handover(Protocol):
    """The process that started this one with `-d` and waits for it."""

    def started(self) -> None:
        """Kafka, topics and processes are there."""

    def settled(self, ready: bool) -> None:
        """Every handler is ready, or one of them will not be."""
