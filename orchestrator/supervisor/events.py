"""What happens under the supervisor, as typed facts. How they are shown is for whoever listens.

Times are seconds; `name` is the child's. `text()` says it in one line for people.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from orchestrator.supervisor.spec import ChildExit, StartRefusal


@dataclass(frozen=True, slots=True)
class Started:
    """A process runs. `again` after a restart."""

    name: str
    pid: int
    again: bool

    def text(self) -> str:
        return f"{self.name}: {'restarted' if self.again else 'started'} (process {self.pid})"


@dataclass(frozen=True, slots=True)
class Ready:
    """Partitions are assigned, or the probe passed, `after` seconds of this process."""

    name: str
    after: float
    again: bool = False

    def text(self) -> str:
        return f"{self.name}: ready again" if self.again else f"{self.name}: ready after {self.after:.1f} s"


@dataclass(frozen=True, slots=True)
class NotReady:
    """It runs, but has lost its partitions or does not answer its probe."""

    name: str

    def text(self) -> str:
        return f"{self.name}: not ready any more"


@dataclass(frozen=True, slots=True)
class Slow:
    """It has been starting for `after` seconds; `missing` is what would make it ready."""

    name: str
    after: float
    missing: str

    def text(self) -> str:
        return f"{self.name}: still not ready after {self.after:.0f} s: waiting until {self.missing}"


@dataclass(frozen=True, slots=True)
class Overdue:
    """An event of it has run for `late` seconds past its deadline, and it did not end by itself: it is killed."""

    name: str
    late: float

    def text(self) -> str:
        return f"{self.name}: an event is {self.late:.0f} s past its deadline and holds the process up; killing it"


@dataclass(frozen=True, slots=True)
class Crashed:
    """It ended although nobody asked it to, and is started again in `restart_in` seconds."""

    name: str
    exit: ChildExit
    last_words: str
    restart_in: float

    def text(self) -> str:
        return f"{self.name}: {_unexpected(self.exit, self.last_words)}; restart in {self.restart_in:.1f} s"


@dataclass(frozen=True, slots=True)
class Renewed:
    """A worker ended because one of its topics was made anew, and is started again at once."""

    name: str

    def text(self) -> str:
        return f"{self.name}: one of its topics was deleted and made anew; starting again"


@dataclass(frozen=True, slots=True)
class GaveUp:
    """It is not started again: `failures` times it ended within `window` seconds, or it is not to be restarted."""

    name: str
    exit: ChildExit
    last_words: str
    failures: int
    window: float

    def text(self) -> str:
        why = _unexpected(self.exit, self.last_words)
        if self.failures < 2:
            return f"{self.name}: {why}; it is not restarted (restart: false)"
        return f"{self.name}: {why}; crash loop, {self.failures} failures in {self.window:.0f} s: it rests now"


@dataclass(frozen=True, slots=True)
class CouldNotStart:
    """Starting it again cannot help. `again` when it had run before."""

    name: str
    refusal: StartRefusal
    again: bool = False

    def text(self) -> str:
        hint = f" ({self.refusal.hint})" if self.refusal.hint else ""
        return f"{self.name}: could not start: {self.refusal.message}{hint}"


@dataclass(frozen=True, slots=True)
class Finished:
    """It ended by itself with 0, and is not to be restarted."""

    name: str

    def text(self) -> str:
        return f"{self.name}: done"


@dataclass(frozen=True, slots=True)
class Stopping:
    """It was sent SIGTERM and has `timeout` seconds."""

    name: str
    timeout: float

    def text(self) -> str:
        return f"{self.name}: stopping"


@dataclass(frozen=True, slots=True)
class Stopped:
    """It was asked to stop and has ended, `after` seconds later; `killed` when it took SIGKILL."""

    name: str
    exit: ChildExit
    killed: bool
    after: float

    def text(self) -> str:
        if self.killed:
            return f"{self.name}: killed after {self.after:.1f} s"
        return f"{self.name}: stopped" + ("" if self.exit.orderly else f", but with {self.exit.text}")


@dataclass(frozen=True, slots=True)
class LogTrouble:
    """Its output cannot be written to its log file; it is still shown."""

    name: str
    reason: str

    def text(self) -> str:
        return f"{self.name}: its log cannot be written: {self.reason}"


@dataclass(frozen=True, slots=True)
class BadReport:
    """It wrote something on its status pipe that is no report."""

    name: str
    reason: str

    def text(self) -> str:
        return f"{self.name}: its status report cannot be read: {self.reason}"


@dataclass(frozen=True, slots=True)
class Reloading:
    """Something of this handler has changed, and it is made so."""

    name: str
    reason: str

    def text(self) -> str:
        return f"{self.name}: reloading: {self.reason}"


@dataclass(frozen=True, slots=True)
class NotReloaded:
    """What has changed cannot be put into effect; what runs goes on as it is. `name` is the pipeline file."""

    name: str
    reason: str

    def text(self) -> str:
        return f"not reloaded, what runs goes on:\n{self.reason}"


Fact = (
    Started
    | Ready
    | NotReady
    | Slow
    | Overdue
    | Crashed
    | Renewed
    | GaveUp
    | CouldNotStart
    | Finished
    | Stopping
    | Stopped
    | LogTrouble
    | BadReport
    | Reloading
    | NotReloaded
)


def _unexpected(exit: ChildExit, last_words: str) -> str:
    if exit.code == 0:
        return "ended by itself (exit code 0)"
    what = f"crashed ({exit.text})"
    # Nobody has a last word at a SIGKILL: what it last printed was about something else, maybe hours ago.
    return f"{what}: {last_words}" if last_words and exit.signal != signal.SIGKILL else what
