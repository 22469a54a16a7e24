"""What one child prints: put together to lines, kept in its log, passed on to be shown."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.state import StateError
from orchestrator.supervisor.events import Fact, LogTrouble
from orchestrator.supervisor.logs.files import LogFile, Stream
from orchestrator.supervisor.logs.lines import Line, LineBuffer

#: Shows lines of a child's output: the child's name, the stream, the lines.
Show = Callable[[str, Stream, Sequence[Line]], None]

#: So many of the newest lines are kept at hand.
_TAIL = 50
_LONGEST_WORDS = 500


class Output:
    """The two streams of a child, over all of its lives. `last_words` is what it last said on stderr in this one."""

    def __init__(self, name: str, logs: Path, hear: Callable[[Fact], None], show: Show) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.last_words = ""
        self._name = name
        self._hear, self._show = hear, show
        self._log = LogFile(logs / f"{name}.log")
        self._log_works = True
        self._buffers: dict[Stream, LineBuffer] = {}

    def begin(self) -> None:
        """A new process is about to print."""
        self._buffers = {"stdout": LineBuffer(), "stderr": LineBuffer()}
        self.tail.clear()
        self.last_words = ""

    def feed(self, stream: Stream, data: bytes) -> None:
        self._pass_on(stream, self._buffers[stream].feed(data))

    def end(self) -> None:
        """The process is gone: what it did not end with a line feed was a line all the same."""
        for stream, buffer in self._buffers.items():
            self._pass_on(stream, buffer.close())

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._log.close()

    def _pass_on(self, stream: Stream, lines: Sequence[Line]) -> None:
        if not lines:
            return
        if stream == "stderr" and (said := [line.text for line in lines if line.text.strip()]):
            self.last_words = said[-1].strip()[:_LONGEST_WORDS]
        self._keep(stream, lines)
        self.tail.extend(line.text for line in lines[-_TAIL:])
        self._show(self._name, stream, lines)

    def _keep(self, stream: Stream, lines: Sequence[Line]) -> None:
        try:
            self._log.write(stream, lines)
            self._log_works = True
        except (OSError, StateError) as error:
            if self._log_works:
                reason = error.message if isinstance(error, StateError) else error.strerror
                self._hear(LogTrouble(self._name, reason or str(error)))
            self._log_works = False
