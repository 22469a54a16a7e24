"""How `kpipe up` tells what happens: as text for people or as JSON lines, and in `.kpipe/logs/_up.log`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.cli.render import output, up_text
from orchestrator.cli.render.terminal import UpTerminal
from orchestrator.config.model import Handler, Pipeline
from orchestrator.state import StateError
from orchestrator.supervisor import events
from orchestrator.supervisor.control.status import HandlerStatus
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.logs.files import LogFile, Stream
from orchestrator.supervisor.logs.lines import Line

_QUIET = (events.Started, events.Stopping)
_CALM = (events.Started, events.Ready, events.Finished, events.Stopping, events.Reloading)


class UpOutput:
    """Shows events, lines of the children `names` and messages on the terminal (a `up.reporting.Reporter`).

    `gone` is called, in a thread, when nobody reads stdout any more. `detached`: nobody is at the terminal.
    """

    def __init__(
        self, names: Sequence[str], logs: Path, gone: Callable[[], None], *, json: bool, detached: bool = False
    ) -> None:
        self._console = UpTerminal(names, gone)
        self._diary = LogFile(logs / "_up.log")
        self._json = json
        self._detached = detached
        self._refused = False

    def hear(self, fact: Fact) -> None:
        self._note(fact.text())
        if self._json:
            self._console.output(_json_line(up_text.fact_json(fact)))
        elif self._is_worth_a_line(fact):
            self._console.say(fact.text(), *(("yellow",) if _is_trouble(fact) else ()))

    def show(self, name: str, stream: Stream, lines: Sequence[Line]) -> None:
        if self._json:
            text = "".join(_json_line(up_text.line_json(name, stream, line)) for line in lines)
            self._console.output(text, len(lines))
        else:
            self._console.lines(name, lines)

    def say(self, text: str) -> None:
        """For people only."""
        self._note(text)
        if not self._json:
            self._console.say(text)

    def ready(self, pipeline: Pipeline, handlers: Sequence[Handler], bootstrap: str, seconds: float) -> None:
        self.say(up_text.ready_text(pipeline, handlers, bootstrap, seconds, detached=self._detached))

    def ended(self, handlers: Sequence[HandlerStatus]) -> None:
        if text := up_text.final_text(handlers):
            self.say(text)

    def flush(self) -> None:
        """Return when what was said is written."""
        self._console.flush()

    def note(self, text: str) -> None:
        """For the log only."""
        self._note(text)

    def close(self) -> None:
        self._console.close()
        self._diary.close()

    def _is_worth_a_line(self, fact: Fact) -> bool:
        if isinstance(fact, events.CouldNotStart) and not fact.again:
            # That ends everything, and the error at the end is about it; a second one would go unsaid.
            first, self._refused = not self._refused, True
            return not first
        return not isinstance(fact, _QUIET)

    def _note(self, text: str) -> None:
        # A full disk is told by the handlers' own logs.
        with contextlib.suppress(OSError, StateError):
            self._diary.write("stderr", [Line(line) for line in text.split("\n")])


def _is_trouble(fact: Fact) -> bool:
    return not isinstance(fact, _CALM) and not (isinstance(fact, events.Stopped) and fact.exit.orderly)


def _json_line(body: dict[str, Any]) -> str:
    return output.json_safe(json.dumps(body, ensure_ascii=False)) + "\n"
