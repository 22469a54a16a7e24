"""Handlers of the kind `exec:`: a program with many events in its pipe (`exec_pool.py`), or with one alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import Any

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.strikes import WHOLE, thirds_of
from orchestrator.errors import HandlerError
from orchestrator.event import Event
from orchestrator.worker.runners.base import Answer, Inline
from orchestrator.worker.runners.child_program import Program, ProgramExit
from orchestrator.worker.runners.command import (
    CANNOT_START,
    END_SECONDS,
    Command,
    Garbage,
    Memory,
    could_not_start,
    read_reply,
    shorten,
)
from orchestrator.worker.runners.exec_pool import ExecPool
from orchestrator.worker.runners.messages import outcome_of, request_line

#: A program that ends within this time of the worker's start could not start (seconds).
START_SECONDS = 0.3


class ExecChild:
    """The program with one event at a time: what it dies of, that event is to blame for. An `Isolated`.

    Not so a program that ended between two events: the next one is asked of another program.
    """

    def __init__(self, handler: Handler, command: Command) -> None:
        self._timeout = handler.timeout
        self._memory = Memory(handler.memory)
        self._command = command
        self._program: Program | None = None
        self._id = 0
        self._stopped = False

    def run(self, event: Event) -> Answer:
        """What the program made of it; `crash` where it ended. Never raises."""
        kept = self._program is not None
        deadline = time.monotonic() + self._timeout
        answer = self._ask(event, deadline)
        if kept and not self._stopped and isinstance(answer, Failed) and answer.error_type == CANNOT_START:
            return self._ask(event, deadline)
        return answer

    def _ask(self, event: Event, deadline: float) -> Answer:
        try:
            program = self._program = self._program or self._command.start()
        except (HandlerError, OSError) as e:
            return Failed("unavailable", e.message if isinstance(e, HandlerError) else str(e), CANNOT_START)
        before = program.taken
        self._id += 1
        program.send(request_line(event, self._id))
        while True:
            left = deadline - time.monotonic()
            patience = min(max(0.0, left), self._memory.patience)
            lines = program.exchange(None if patience == inf else patience)
            try:
                for line in filter(None, lines):
                    id, reply = read_reply(line)
                    if id == self._id:
                        return outcome_of(reply)
            except Garbage as e:
                self._end(program, kill=True)
                return Failed("retry", str(e), "ProtocolError")
            if program.closed:
                return self._died(program, before)
            if self._memory.exceeded(program):
                end = self._end(program, kill=True)
                return Failed(
                    "crash", self._memory.text, "OutOfMemory", stack=end.stderr, exit="signal SIGKILL", thirds=WHOLE
                )
            if left <= 0:
                end = self._end(program, kill=True)
                why = f"no answer within {self._timeout:g} s, the program was ended"
                return Failed("timeout", why, "Timeout", stack=end.stderr)

    def stop(self) -> None:
        """End what runs now, from another thread."""
        self._stopped = True
        program = self._program
        if program is not None:
            program.kill()

    def close(self) -> None:
        program, self._program = self._program, None
        if program is not None:
            program.close_input()
            program.wait(END_SECONDS)

    def _died(self, program: Program, before: int) -> Failed:
        taken = program.taken
        garbage = program.garbage
        end = self._end(program, kill=bool(garbage))
        if taken == before:
            return could_not_start(end, garbage)
        if garbage:
            return Failed("retry", f"it said {garbage}", "ProtocolError", stack=end.stderr)
        name = end.text.removeprefix("signal ") if end.signal is not None else ""
        return Failed(
            "crash", f"the program ended: {end.text}", "ProgramDied", stack=end.stderr, frame=end.text, exit=end.text,
            thirds=thirds_of(name),
        )  # fmt: skip

    def _end(self, program: Program, *, kill: bool) -> ProgramExit:
        self._program = None
        if kill:
            program.kill()
        return program.wait(END_SECONDS)


class ExecHandler:
    """An `exec:` handler: the program runs from now on, so that one which cannot is known before any event is taken."""

    is_async = False
    inline: Inline | None = None
    has_pool = True

    def __init__(self, handler: Handler, command: Command) -> None:
        """Raises HandlerError when there is no such program."""
        self._handler = handler
        self._command = command
        #: For an event that has to have a program to itself.
        self.alone = ExecChild(handler, command)
        self._first: Program | None = self._start()

    def pool(self, on_answer: Callable[[], None]) -> ExecPool[Any]:
        """What runs its events, as many at once as the program is given."""
        first, self._first = self._first, None
        return ExecPool(self._handler, self._command, on_answer, first)

    def run(self, event: Event) -> Answer:
        """Run one event in a program of its own."""
        return self.alone.run(event)

    async def run_async(self, event: Event) -> Answer:
        return await asyncio.to_thread(self.run, event)

    def close(self) -> None:
        self.alone.close()

    def _start(self) -> Program:
        name = f"handler {self._handler.name}"
        try:
            program = self._command.start()
        except HandlerError as e:
            raise HandlerError(f"{name}: {e.message}", e.hint) from e
        except OSError as e:
            raise HandlerError(f"{name}: the program cannot be started: {e}") from e
        said = program.exchange(START_SECONDS)
        if not said and not program.closed:
            return program
        if said:
            program.kill()
        end = program.wait(END_SECONDS)
        if said:
            raise HandlerError(
                f"{name}: the program said {shorten(said[0])} before it was asked", "only answers belong on its fd 4"
            )
        last = end.stderr.strip().splitlines()[-1:]
        raise HandlerError(f"{name}: the program ended at once: {end.text}{f': {last[0]}' if last else ''}")
