"""Where events run that may kill or hang a process: one at a time, in a child that may die. DESIGN section 5, step 8.

Rules:
- An event under suspicion runs here until it settles. Before each of its runs the group is told, so that whoever comes
  after the loss of this machine counts on.
- Its end is committed before anything else runs: should the next event kill the worker, this one is not run again.
- After an unclean death every event runs here first (`wary`), until enough of them ended well: a handler that dies of
  each of its events dies here, where it costs no rebalance and no restart.
- The child lives on between events; after a death or a hang the next event gets a new one. A child that died between
  two events, before it read the next one, is no strike against that: it is asked of a new child.
"""

from __future__ import annotations

import logging
import os
import signal as signals
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.strikes import WHOLE, thirds_of
from orchestrator.errors import HandlerError
from orchestrator.event import Event
from orchestrator.records import Record
from orchestrator.targets import Target
from orchestrator.worker.isolation.memory import resident
from orchestrator.worker.isolation.quarantine_main import answer_of, beginning, question_of
from orchestrator.worker.runners.base import Answer, Isolated, Runner
from orchestrator.worker.runners.child_program import Program, ProgramExit

log = logging.getLogger("kpipe.worker")

#: What importing a handler may take (seconds).
START_SECONDS = 60.0
#: An async handler is cancelled and says so a little after its timeout; after that its process is ended (seconds).
GRACE = 1.0
#: How often the memory of the child is looked at (seconds).
_LOOK_SECONDS = 0.05


class Quarantine:
    """Decides which events run apart, and has them run so."""

    def __init__(self, isolated: Isolated, announce: Callable[[Partition, int | None], bool], wary: int = 0) -> None:
        """`announce` tells the group that an event is about to run alone (or, without an offset, what has settled), and
        waits for its answer; whether there is one. `wary` is how many events have to end well
        here before others run in the worker itself.
        """
        self._isolated = isolated
        self._announce = announce
        self.wary = wary

    def takes(self, part: Partition, record: Record) -> bool:
        """Whether this event runs here."""
        return self.wary > 0 or (bool(part.suspects) and record.offset in part.suspects)

    def run(self, part: Partition, event: Event, record: Record) -> Answer:
        suspected = record.offset in part.suspects
        if suspected and not self._announce(part, record.offset) and part.draining:
            return Failed("unavailable", "its partition is taken away", "Revoked")
        return self._isolated.run(event)

    def settled(self, part: Partition) -> None:
        """An event under suspicion has come to its end."""
        self._announce(part, None)

    def ended_well(self) -> None:
        """An event that ran here ended well."""
        self.wary = max(0, self.wary - 1)

    def stop(self) -> None:
        self._isolated.stop()

    def close(self) -> None:
        self._isolated.close()


class InProcess:
    """A handler whose code is no part of the worker's process anyway."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def run(self, event: Event) -> Answer:
        return self._runner.run(event)

    def stop(self) -> None: ...

    def close(self) -> None: ...


def isolated(runner: Runner) -> Isolated:
    """How a handler whose code is not in the worker's process runs one event alone."""
    return InProcess(runner) if runner.alone is None else runner.alone


class PythonChild:
    """A Python handler in a child of the worker."""

    def __init__(self, handler: Handler, base: Path) -> None:
        self._handler = handler
        self._base = base
        self._program: Program | None = None
        self._stopped = False

    def run(self, event: Event) -> Answer:
        kept = self._program is not None
        answer = self._ask(event)
        if answer is None and kept and not self._stopped:
            answer = self._ask(event)
        if answer is None:
            return Failed("unavailable", "its process ended before it read the event", "ProcessDied")
        return answer

    def _ask(self, event: Event) -> Answer | None:
        """What came of it; None when the child ended before it read the event."""
        try:
            program = self._program = self._program or self._start()
        except (HandlerError, OSError) as e:
            return Failed("unavailable", f"no process to run it in: {e}", type(e).__name__)
        before = program.taken
        program.send(question_of(event))
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            said = program.exchange(self._patience(waited))
            if said:
                return self._read(program, said[0])
            if program.closed:
                unread = program.taken == before
                died = self._died(program)
                return None if unread else died
            if waited > self._handler.timeout + GRACE:
                stderr = self._end(program).stderr
                why = f"no answer within {self._handler.timeout:g} s; its process was ended"
                return Failed("hang", why, "Timeout", stack=stderr, exit=signals.SIGKILL.name)
            if self._handler.memory is not None and resident(program.pid) > self._handler.memory:
                stderr = self._end(program).stderr
                return _crash(f"it used more than {_mb(self._handler.memory)} MB of memory", "OutOfMemory", stderr)

    def stop(self) -> None:
        self._stopped = True
        program = self._program
        if program is not None:
            program.kill()

    def close(self) -> None:
        program, self._program = self._program, None
        if program is not None:
            program.close_input()
            program.wait(1.0)

    def _patience(self, waited: float) -> float | None:
        left = self._handler.timeout + GRACE - waited + 0.001
        if self._handler.memory is not None:
            return min(_LOOK_SECONDS, max(0.0, left))
        return None if left == float("inf") else max(0.0, left)

    def _read(self, program: Program, line: bytes) -> Answer:
        try:
            answer = answer_of(line)
        except ValueError as e:
            self._end(program)
            return Failed("retry", f"its process said something else: {e}", "Garbage")
        if isinstance(answer, Failed) and answer.error_type == "MemoryError" and self._handler.memory is not None:
            self._end(program)
            return _crash(f"it wanted more than {_mb(self._handler.memory)} MB of memory", "OutOfMemory", answer.stack)
        return answer

    def _died(self, program: Program) -> Failed:
        end = self._end(program)
        name = end.text.removeprefix("signal ") if end.signal is not None else ""
        return Failed(
            "crash", f"its process ended: {end.text}", "ProcessDied", stack=end.stderr, frame=end.text, exit=end.text,
            thirds=thirds_of(name),
        )  # fmt: skip

    def _end(self, program: Program) -> ProgramExit:
        self._program = None
        if not program.closed:
            program.kill()
        return program.wait()

    def _start(self) -> Program:
        env = {name: value for name, value in os.environ.items() if not name.startswith("KPIPE_CONFIG")}
        program = Program(Target.QUARANTINE.argv, self._base, env)
        program.send(beginning(self._handler, self._base))
        said: list[bytes] = []
        ends = time.monotonic() + START_SECONDS
        while not said and not program.closed and time.monotonic() < ends:
            said = program.exchange(1.0)
        if said == [b"ready"]:
            return program
        program.kill()
        end = program.wait()
        why = said[0].decode("utf-8", "replace").removeprefix("failed ") if said else f"{end.text}: {end.stderr[-500:]}"
        raise HandlerError(f"the handler cannot be loaded once more: {why}")


def _crash(message: str, error_type: str, stack: str) -> Failed:
    return Failed("crash", message, error_type, stack=stack, exit=signals.SIGKILL.name, thirds=WHOLE)


def _mb(size: int) -> int:
    return size // 1_000_000
