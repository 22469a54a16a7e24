"""One program that is given many events at once, and answers them line by line: the pool of an `exec:` handler.

Rules (DESIGN section 6; the protocol is docs/protocol.md):
- Requests have ids that are never used twice, so that a late or a second reply matches no event.
- With `concurrency: 1` the program is taken to handle one line after the other: only the clock of the oldest unanswered
  event runs, and as many further ones wait in the pipe as keep it busy. With `concurrency: N` at most N events are
  unanswered, and all their clocks run.
- An event that runs past its deadline ends the program and is a timeout; those beside it run again in a new one.
- When the program dies, or says what is no reply, the events that it worked on are suspects, and come back as `crash`:
  whoever asked has to run each alone. Those are the `concurrency` oldest that it had read and not answered; should it
  work on more in truth, then also what was among the read ones at MOST_DEATHS deaths. The others, and what it had not
  read, are given to the next program.
- A new program that ends before it has read anything could not start: that blames no event, the handler is unavailable.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from math import inf
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.errors import HandlerError
from orchestrator.event import Event
from orchestrator.worker.runners.base import Answer
from orchestrator.worker.runners.child_program import Program, ProgramExit
from orchestrator.worker.runners.command import (
    CANNOT_START,
    END_SECONDS,
    Command,
    Garbage,
    Memory,
    could_not_start,
    read_reply,
)
from orchestrator.worker.runners.messages import outcome_of, request_line
from orchestrator.worker.runners.window import SendWindow

log = logging.getLogger("kpipe.worker")

T = TypeVar("T")

#: An event that was there at so many deaths of the program is a suspect, though others were before it.
MOST_DEATHS = 3
#: With more unanswered events than this the program has enough to do while its answers gather for so long (seconds).
BUSY, GATHER_SECONDS = 64, 0.001


@dataclass(slots=True)
class _Asked(Generic[T]):
    """One event that was given to the pool. `begins` counts the request bytes of this program before its own."""

    event: Event
    token: T
    sent_at: float = 0.0
    begins: int = 0
    #: How often it had been read when a program died of something else.
    deaths: int = 0
    deadline: float | None = None


class ExecPool(Generic[T]):
    """One program, and the thread that talks to it; a `Pool`."""

    outside = True
    error: BaseException | None = None

    def __init__(
        self, handler: Handler, command: Command, on_answer: Callable[[], None], program: Program | None
    ) -> None:
        """`program` is the first one, where it runs already."""
        self.answers: SimpleQueue[tuple[T, Answer]] = SimpleQueue()
        self._command = command
        self._timeout = handler.timeout
        self._memory = Memory(handler.memory)
        self._at_once = handler.concurrency
        self._window = SendWindow(None if handler.concurrency == 1 else handler.concurrency)
        self._on_answer = on_answer
        self._work: SimpleQueue[_Asked[T] | None] = SimpleQueue()
        self._ready: deque[_Asked[T]] = deque()
        self._asked: dict[int, _Asked[T]] = {}
        self._last_id = 0
        self._sent_bytes = 0
        self._strange = ""
        self._lock = threading.Lock()
        self._program = program
        self._sleeping = False
        self._closing = False
        threading.Thread(target=self._run, name="program", daemon=True).start()

    @property
    def size(self) -> int:
        return self._window.size

    def start(self, event: Event, token: T) -> None:
        self._work.put(_Asked(event, token))
        self._wake()

    def close(self) -> None:
        self._closing = True
        self._work.put(None)
        self._wake()

    def _wake(self) -> None:
        if self._sleeping:
            self._sleeping = False
            # Under the lock: the pipe of a program that is gone may be somebody else's by now.
            with self._lock:
                if self._program is not None:
                    self._program.wake()

    # -- the thread that talks to the program ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._talk()
        except BaseException as e:  # noqa: BLE001 - handed to the loop's thread, which ends the worker with it
            self.error = e
            self._on_answer()

    def _talk(self) -> None:
        while not self._closing:
            self._take(wait=not self._ready and not self._asked)
            if self._ready:
                self._send()
            if self._asked and self._program is not None:
                self._listen(self._program)
        with self._lock:
            program, self._program = self._program, None
        if program is not None:
            program.close_input()
            program.wait(END_SECONDS)

    def _take(self, *, wait: bool) -> None:
        try:
            while (asked := self._work.get(block=wait)) is not None:
                self._ready.append(asked)
                wait = False
        except Empty:
            pass

    def _send(self) -> None:
        program = self._running()
        if program is None:
            return
        now = time.monotonic()
        lines = []
        for asked in self._ready:
            self._last_id += 1
            line = request_line(asked.event, self._last_id)
            asked.sent_at, asked.begins, asked.deadline = now, self._sent_bytes, None
            self._sent_bytes += len(line)
            self._asked[self._last_id] = asked
            lines.append(line)
        self._ready.clear()
        program.send(b"".join(lines))

    def _running(self) -> Program | None:
        """The program, started if there is none; None when that failed, and all that waited has been told so."""
        if self._program is None:
            self._sent_bytes = 0
            self._strange = ""
            try:
                started = self._command.start()
            except (HandlerError, OSError) as e:
                why = e.message if isinstance(e, HandlerError) else str(e)
                self._answer_all(self._ready, Failed("unavailable", why, CANNOT_START))
                self._ready.clear()
                return None
            with self._lock:
                self._program = started
        return self._program

    def _listen(self, program: Program) -> None:
        now = time.monotonic()
        earliest = inf
        for asked in islice(self._asked.values(), self._at_once):
            if asked.deadline is None:
                asked.deadline = now + self._timeout
            earliest = min(earliest, asked.deadline)
        self._sleeping = True
        if not self._work.empty():
            self._sleeping = False
        patience = min(max(0.0, earliest - now), self._memory.patience) if self._sleeping else 0.0
        lines = program.exchange(None if patience == inf else patience)
        self._sleeping = False
        if len(self._asked) > BUSY:
            # A program that flushes each answer would wake this thread, and the loop behind it, for each of them.
            time.sleep(GATHER_SECONDS)
            lines += program.exchange(0)
        try:
            self._hear(lines)
        except Garbage as e:
            self._died(program, str(e))
            return
        if program.closed:
            self._died(program, program.garbage and f"it said {program.garbage}")
        elif self._memory.exceeded(program):
            self._died(program, self._memory.text)
        elif earliest != inf and not lines and time.monotonic() >= earliest:
            self._overrun(program)

    def _hear(self, lines: Iterable[bytes]) -> None:
        now = time.monotonic()
        heard = False
        try:
            for line in lines:
                if not line:
                    continue
                id, reply = read_reply(line)
                asked = self._asked.pop(id, None)
                if asked is None:
                    self._strange = f"; its last line answers the request {id}, for which nobody waits"
                    continue
                self._strange = ""
                self._window.answered(now - asked.sent_at, len(self._asked) + 1)
                heard = True
                self.answers.put((asked.token, outcome_of(reply)))
        finally:
            if heard:
                self._on_answer()

    # -- ends -----------------------------------------------------------------------------------------------------

    def _overrun(self, program: Program) -> None:
        """End the program: an event is past its deadline. Those beside it had no part in that and run again."""
        now = time.monotonic()
        partial = program.unfinished
        self._end(program, kill=True)
        late = [a for a in self._asked.values() if (a.deadline or inf) <= now]
        what = f"; it had begun a line of {partial} bytes" if partial else self._strange
        self._again(a for a in self._asked.values() if (a.deadline or inf) > now)
        self._asked.clear()
        why = f"no answer within {self._timeout:g} s, the program was ended{what}"
        self._answer_all(late, Failed("timeout", why, "Timeout"))

    def _died(self, program: Program, garbage: str) -> None:
        """The program is gone, or has to go because of what it said."""
        taken = program.taken
        end = self._end(program, kill=bool(garbage))
        asked = list(self._asked.values())
        self._asked.clear()
        if not taken:
            self._answer_all(asked, could_not_start(end, garbage))
            return
        begun = sum(a.begins < taken for a in asked)
        for witness in asked[self._at_once : begun]:
            witness.deaths += 1
        guilty = {id(a) for n, a in enumerate(asked) if n < min(begun, self._at_once) or a.deaths >= MOST_DEATHS}
        suspects = [a for a in asked if id(a) in guilty]
        self._again(a for a in asked if id(a) not in guilty)
        why = garbage or f"the program ended: {end.text}"
        if not suspects:
            log.warning("%s, while it had nothing to do; it is started again", why)
        self._answer_all(suspects, Failed("crash", why, "ProgramDied", stack=end.stderr))

    def _again(self, several: Iterable[_Asked[T]]) -> None:
        self._ready.extendleft(reversed(list(several)))

    def _answer_all(self, several: Iterable[_Asked[T]], answer: Failed) -> None:
        for asked in several:
            self.answers.put((asked.token, answer))
        self._on_answer()

    def _end(self, program: Program, *, kill: bool) -> ProgramExit:
        with self._lock:
            self._program = None
        if kill:
            program.kill()
        return program.wait(END_SECONDS)
