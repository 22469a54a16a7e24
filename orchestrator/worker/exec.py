"""Handlers of the kind `exec:`: one program that is given many events at once, and answers them line by line.

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

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

import orjson

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.strikes import WHOLE, thirds_of
from orchestrator.errors import HandlerError
from orchestrator.event import Emit, Event
from orchestrator.worker.memory import resident
from orchestrator.worker.messages import outcome_of, request_line
from orchestrator.worker.program import Exit, Program
from orchestrator.worker.window import Window

log = logging.getLogger("kpipe.worker")

T = TypeVar("T")
Answer = list[Emit] | Failed

#: An event that was there at so many deaths of the program is a suspect, though others were before it.
MOST_DEATHS = 3
#: A program that ends within this time of the worker's start could not start (seconds).
START_SECONDS = 0.3
#: How long a program that closed its end of the pipe may take to end (seconds).
END_SECONDS = 1.0
#: How often the memory of a program with a limit is looked at (seconds).
LOOK_SECONDS = 0.1
#: With more unanswered events than this the program has enough to do while its answers gather for so long (seconds).
BUSY, GATHER_SECONDS = 64, 0.001
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Command:
    """How a handler's program is started."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]

    def start(self) -> Program:
        """Raises HandlerError or OSError when it cannot be."""
        return Program(self.argv, self.cwd, self.env)


class Garbage(ValueError):
    """What a program said is no reply."""


def read_reply(line: bytes) -> tuple[int, Any]:
    """The id and the document of a reply. Raises Garbage."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Garbage(f"it said a line that is not JSON: {shorten(line)}") from None
    id = document.get("id") if isinstance(document, dict) else None
    if type(id) is not int:
        raise Garbage(f"it said a line without the `id` of a request: {shorten(line)}")
    return id, document


def shorten(line: bytes) -> str:
    """The beginning of what a program said, printable."""
    text = line[: 4 * _SHOWN].decode("utf-8", "replace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


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
        self._window = Window(None if handler.concurrency == 1 else handler.concurrency)
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
                self._answer_all(self._ready, Failed("unavailable", why, "CannotStart"))
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

    def _end(self, program: Program, *, kill: bool) -> Exit:
        with self._lock:
            self._program = None
        if kill:
            program.kill()
        return program.wait(END_SECONDS)


class ExecChild:
    """The program with one event at a time: what it dies of, that event is to blame for. An `Isolated`."""

    def __init__(self, handler: Handler, command: Command) -> None:
        self._timeout = handler.timeout
        self._memory = Memory(handler.memory)
        self._command = command
        self._program: Program | None = None
        self._id = 0

    def run(self, event: Event) -> Answer:
        """What the program made of it; `crash` where it ended. Never raises."""
        try:
            program = self._program = self._program or self._command.start()
        except (HandlerError, OSError) as e:
            return Failed("unavailable", e.message if isinstance(e, HandlerError) else str(e), "CannotStart")
        before = program.taken
        self._id += 1
        program.send(request_line(event, self._id))
        deadline = time.monotonic() + self._timeout
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

    def _end(self, program: Program, *, kill: bool) -> Exit:
        self._program = None
        if kill:
            program.kill()
        return program.wait(END_SECONDS)


class Memory:
    """Looks now and then whether a program uses more memory than it may; `limit` in bytes."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._due = 0.0
        #: How long nobody has to look (seconds).
        self.patience = inf if limit is None else LOOK_SECONDS

    def exceeded(self, program: Program) -> bool:
        now = time.monotonic()
        if self._limit is None or now < self._due:
            return False
        self._due = now + LOOK_SECONDS
        return resident(program.pid) > self._limit

    @property
    def text(self) -> str:
        return f"it used more than {(self._limit or 0) // 1_000_000} MB of memory"


def could_not_start(end: Exit, garbage: str = "") -> Failed:
    """A program that has read nothing: no event had a part in its end."""
    why = f"the program ended before it read an event: {garbage or end.text}"
    last = end.stderr.strip().splitlines()[-1:] or [""]
    return Failed("unavailable", f"{why}: {last[0]}" if last[0] else why, "CannotStart", stack=end.stderr)


class ExecHandler:
    """An `exec:` handler: the program runs from now on, so that one which cannot is known before any event is taken."""

    is_async = False

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


def command_of(argv: Sequence[str], base: Path) -> Command:
    """A command in the pipeline's folder; its environment is the worker's, without what is for the worker alone."""
    own = ("KPIPE_CONFIG_FD", "KPIPE_STATUS_FD")
    return Command(tuple(argv), base, {name: value for name, value in os.environ.items() if name not in own})
