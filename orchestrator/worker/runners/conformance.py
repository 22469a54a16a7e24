"""What a program does with the protocol of `exec:` handlers, found out by talking to it: `kpipe handler check`.

Every check talks to a program of its own, freshly started, and ends with what is wrong in a sentence, or with nothing.
What is only unwise is a warning. A program that already fails the first ones is not asked further.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Literal, NamedTuple

from orchestrator.delivery.outcome import Failed
from orchestrator.errors import HandlerError
from orchestrator.event import Event
from orchestrator.records import Headers, Record
from orchestrator.worker.runners.child_program import Program
from orchestrator.worker.runners.command import Command, Garbage, read_reply
from orchestrator.worker.runners.messages import outcome_of, request_line

Result = Literal["ok", "warning", "failed", "skipped"]

#: So many requests are put into the pipe at once.
MANY = 300
#: A program has nothing to say for so long after its last answer (seconds).
QUIET_SECONDS = 0.2
#: How long a program may take to end after the end of its input (seconds).
END_SECONDS = 5.0
LONG_BYTES = 1_000_000
#: More than this in one line is not waited for by the kit (bytes).
LONGEST_LINE = 8 * 1024 * 1024


class Fault(Exception):
    """What the program does wrong."""


class Doubt(Exception):
    """What will work, but should be otherwise."""


class ConformanceFinding(NamedTuple):
    """What came of one check. `title` says what a good program does."""

    name: str
    title: str
    result: Result
    message: str = ""


class Talk:
    """A conversation with one running program; every breach of the protocol is a `Fault`."""

    def __init__(self, command: Command, timeout: float) -> None:
        self.program = Program(command.argv, command.cwd, command.env, longest=LONGEST_LINE)
        self.timeout = timeout
        self.replies: dict[int, Mapping[str, Any]] = {}
        self._asked: set[int] = set()
        self._ids = count(1)

    def ask(self, event: Event) -> int:
        """Put a request into the pipe; its id."""
        line, id = self.request(event)
        self.program.send(line)
        return id

    def request(self, event: Event) -> tuple[bytes, int]:
        """A request that the caller sends."""
        id = next(self._ids)
        self._asked.add(id)
        return request_line(event, id), id

    def wait(self, ids: Iterable[int]) -> None:
        """Until all of these are answered; each has the whole timeout from the answer before it."""
        wanted = set(ids) - self.replies.keys()
        until = time.monotonic() + self.timeout
        while wanted:
            if self.listen(max(0.0, until - time.monotonic())):
                until = time.monotonic() + self.timeout
                wanted -= self.replies.keys()
            elif time.monotonic() >= until:
                raise Fault(self._silence(wanted))

    def listen(self, seconds: float) -> int:
        """Hear what it says now; how many lines came."""
        lines = self.program.exchange(seconds)
        for line in lines:
            self._hear(line)
        if self.program.closed and not lines:
            raise Fault(self._ending())
        return len(lines)

    def quiet(self) -> None:
        """It has nothing more to say."""
        while self.listen(QUIET_SECONDS):
            pass

    def close(self) -> None:
        self.program.kill()
        self.program.wait()

    def _hear(self, line: bytes) -> None:
        if not line:
            return
        try:
            id, reply = read_reply(line)
        except Garbage as e:
            raise Fault(f"{e}; only replies belong on file descriptor 4, one in a line") from None
        if id in self.replies:
            raise Fault(f"it answered request {id} twice")
        if id not in self._asked:
            raise Fault(f"it answered request {id}, which nobody asked; give back each request's `id` as it is")
        outcome = outcome_of(reply)
        if isinstance(outcome, Failed) and outcome.error_type == "ProtocolError" and outcome.verdict == "output":
            raise Fault(f"its answer to request {id} cannot be understood: {outcome.message}")
        self.replies[id] = reply

    def _silence(self, wanted: set[int]) -> str:
        what = f"no answer to request {min(wanted)} within {self.timeout:g} s"
        if len(self._asked) > 1:
            what += f" ({len(self._asked) - len(wanted)} of {len(self._asked)} are answered)"
        if self.program.unfinished:
            return (
                f"{what}; it began a line of {self.program.unfinished} bytes and did not end it: flush after each line"
            )
        if not self.program.taken:
            return f"{what}; it has not read anything from file descriptor 3"
        return f"{what}; does it flush file descriptor 4 after each line?"

    def _ending(self) -> str:
        if self.program.garbage:
            return f"it said {self.program.garbage}, which is too much for the kit"
        has_read = self.program.taken > 0
        end = self.program.wait(1.0)
        open_requests = len(self._asked) - len(self.replies)
        said = end.stderr.strip().splitlines()[-1:]
        last = f"; its last words: {said[0]}" if said else ""
        unread = "" if has_read or not self._asked else ", and it had not read any"
        return f"it ended ({end.text}) with {open_requests} of {len(self._asked)} requests unanswered{unread}{last}"


class Kit:
    """The checks for one program. `values` makes a fresh event's value each time, as JSON."""

    def __init__(self, command: Command, values: Callable[[], bytes], topic: str, timeout: float) -> None:
        self._command = command
        self._values = values
        self._topic = topic
        self._timeout = timeout
        self._offsets = count()

    def run(self) -> Iterator[ConformanceFinding]:
        """All checks, one after the other. Raises HandlerError when the program cannot be started."""
        broken = False
        for name, title, check, vital in self._checks():
            if broken:
                yield ConformanceFinding(name, title, "skipped")
                continue
            result, message = self._one(check)
            broken = vital and result == "failed"
            yield ConformanceFinding(name, title, result, message)

    def _checks(self) -> list[tuple[str, str, Callable[[Talk], None], bool]]:
        return [
            ("start", "says nothing before it is asked", self._start, True),
            ("answer", "answers an event", self._answer, True),
            ("repeat", "gives the same answer to the same event", self._repeat, False),
            ("many", f"answers {MANY} events that wait in the pipe, each once", self._many, False),
            ("pieces", "puts together a line that comes in pieces", self._pieces, False),
            ("long", f"takes a line of {LONG_BYTES:,} bytes", self._long, False),
            ("backlog", "waits while nobody reads its answers", self._backlog, False),
            ("odd", "answers events with odd keys, headers and without a value", self._odd, False),
            ("end", "ends when its input ends", self._end, False),
        ]

    def _one(self, check: Callable[[Talk], None]) -> tuple[Result, str]:
        talk = Talk(self._command, self._timeout)
        try:
            check(talk)
        except Fault as e:
            return "failed", str(e)
        except Doubt as e:
            return "warning", str(e)
        finally:
            talk.close()
        return "ok", ""

    def _event(self, key: bytes | None = b"key", headers: Headers = (), attempt: int = 1) -> Event:
        return self._with(self._values(), key, headers, attempt)

    def _with(self, raw: bytes | None, key: bytes | None, headers: Headers = (), attempt: int = 1) -> Event:
        record = Record(self._topic, 0, next(self._offsets), int(time.time() * 1000), key, raw, headers)
        return Event(record, raw, attempt=attempt)

    # -- the checks -----------------------------------------------------------------------------------------------

    def _start(self, talk: Talk) -> None:
        until = time.monotonic() + QUIET_SECONDS
        while (left := until - time.monotonic()) > 0:
            talk.listen(left)

    def _answer(self, talk: Talk) -> None:
        id = talk.ask(self._event())
        talk.wait([id])
        talk.quiet()
        outcome = outcome_of(talk.replies[id])
        if isinstance(outcome, Failed):
            raise Doubt(f"it answered {outcome.verdict}: {outcome.message}; give the kit an event that ends well")

    def _repeat(self, talk: Talk) -> None:
        event = self._event()
        first = talk.ask(event)
        talk.wait([first])
        talk.listen(0.02)  # so that a clock has moved on
        second = talk.ask(event)
        talk.wait([second])
        said, again = (dict(talk.replies[id], id=0) for id in (first, second))
        if said != again:
            raise Doubt("the same event has another answer the second time; derive ids and times from the event")

    def _many(self, talk: Talk) -> None:
        talk.wait([talk.ask(self._event(b"key-%d" % n)) for n in range(MANY)])
        talk.quiet()

    def _pieces(self, talk: Talk) -> None:
        line, id = talk.request(self._event())
        third = len(line) // 3
        for piece in (line[:third], line[third : 2 * third]):
            talk.program.send(piece)
            if talk.listen(0.05):
                raise Fault("it answered before the line had ended")
        talk.program.send(line[2 * third :])
        talk.wait([id])

    def _long(self, talk: Talk) -> None:
        talk.wait([talk.ask(self._event(headers=(("padding", b"x" * LONG_BYTES),)))])

    def _backlog(self, talk: Talk) -> None:
        ids = [talk.ask(self._event(headers=(("padding", b"x" * 1_000),))) for _ in range(MANY)]
        talk.listen(0)  # fills the pipe; then nobody reads for a while
        time.sleep(QUIET_SECONDS)
        talk.wait(ids)
        talk.quiet()

    def _odd(self, talk: Talk) -> None:
        """Any answer will do, one by one, so that what breaks it can be named."""
        odd = {
            "without a key": self._event(None),
            "with a key that is not UTF-8": self._event(b"\xff\x00"),
            "with odd headers": self._event(
                "ключ\u2028".encode(), (("h", None), ("h", b"\xff"), ("h\udcff", b""), ("ü", "\u2029".encode()))
            ),
            "that is tried for the second time": self._event(attempt=2),
            "without a value (a tombstone)": self._with(None, b"key"),
        }
        for what, event in odd.items():
            try:
                talk.wait([talk.ask(event)])
            except Fault as e:
                raise Fault(f"an event {what}: {e}") from None

    def _end(self, talk: Talk) -> None:
        talk.wait([talk.ask(self._event())])
        talk.program.close_input()
        until = time.monotonic() + END_SECONDS
        while not talk.program.closed and time.monotonic() < until:
            for _ in talk.program.exchange(0.2):
                raise Fault("it said something after its input had ended")
        if not talk.program.closed:
            raise Doubt(f"it goes on {END_SECONDS:g} s after its input has ended; kpipe would end it with SIGTERM")
        end = talk.program.wait(END_SECONDS)
        if end.code != 0:
            raise Doubt(f"it ended with {end.text} when its input ended; 0 is expected")


def can_start(command: Command) -> None:
    """Raises HandlerError when there is no such program."""
    try:
        program = command.start()
    except OSError as e:
        raise HandlerError(f"the program cannot be started: {e}") from e
    program.kill()
    program.wait()
