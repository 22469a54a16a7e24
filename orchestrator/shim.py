"""Runs one program and makes sure that nothing of it outlives whoever started it (called the supervisor here).

    python -I -S shim.py CONTROL_FD REPORT_FD group|main FDS PROGRAM [ARGUMENT…]

Rules of this file:
- Only the standard library, and of that only what starts fast: every handler pays for it at every start.
- The shim leads a session of its own; the program leads a process group in it, so that a program which signals its
  own group (`kill 0`) does not reach the shim.
- CONTROL is the read end of a pipe whose other end only the supervisor holds. `T` asks for SIGTERM (to the whole
  group, or with `main` to the program alone), `K` for SIGKILL. End of file is the supervisor's death, however it
  died: SIGTERM, and SIGKILL after GRACE seconds.
- REPORT gets a line `pid N`, or `cannot ERRNO` when there is no such program, then `exit CODE` or `signal NUMBER`. Its
  end of file is the shim's end, and the shim ends after everything that the program started.
- FDS names inherited file descriptors, with commas between them, that the program gets as 3, 4, …; or it is `-`.
- On Linux the shim adopts orphans (PR_SET_CHILD_SUBREAPER), so that a daemon of the program is found as well; and
  the program dies with the shim (PR_SET_PDEATHSIG) should somebody kill that. Elsewhere the process group must do.
- A process is sent SIGKILL once.
"""

# ruff: noqa: PTH123, PTH208 - pathlib takes longer to import than all the rest.
from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between SIGTERM and SIGKILL for what is left when the program or the supervisor is gone.
GRACE = 0.8
#: Milliseconds between two looks at a process group, where no signal tells that it is empty.
PAUSE = 50

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Shim:
    """One program, from its start to the end of everything that it started."""

    def __init__(self, control: int, report: int, whole_group: bool, fds: list[int], argv: list[str]) -> None:
        self.control = control
        self.report = report
        self.whole_group = whole_group
        self.fds = fds
        self.argv = argv
        self.pid = 0
        self.running = False
        self.terminated = False
        self.killed = False
        self.deadline: float | None = None
        self.condemned: set[int] = set()

    def run(self) -> None:
        """Start the program and return when nothing is left of it."""
        wake = self.listen()
        # poll(), not select(): the pipes keep the supervisor's numbers, which may be above 1023.
        poll = select.poll()
        for fd in (wake, self.control):
            poll.register(fd, select.POLLIN)
        if LINUX:
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.start()
        while not self.gone():
            readable = {fd for fd, _ in poll.poll(self.patience())}
            if wake in readable:
                self.forward(os.read(wake, 512))
            if self.control in readable and not self.obey(os.read(self.control, 1)):
                poll.unregister(self.control)
            if self.killed or (self.deadline is not None and time.monotonic() >= self.deadline):
                self.kill()

    def listen(self) -> int:
        """Signals arrive as bytes on a pipe; the handlers themselves do nothing."""
        wake, end = os.pipe()
        for fd in (wake, end):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        return wake

    def start(self) -> None:
        parent = os.getpid()
        trouble, end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            become(self.argv, parent, end, self.fds)
        for fd in (end, *self.fds):
            os.close(fd)
        try:
            os.setpgid(self.pid, self.pid)  # The child does the same: whoever comes first.
        except OSError:
            pass
        self.running = True
        number = os.read(trouble, 16)  # End of file means that the program runs: the pipe closes on exec.
        os.close(trouble)
        self.tell(f"cannot {int(number)}" if number else f"pid {self.pid}")

    def gone(self) -> bool:
        """Reap what ended. True when nothing is left of the program and of what it started."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return not self.group_left()
            if pid == 0:
                return False
            self.condemned.discard(pid)
            if pid == self.pid:
                self.main_ended(status)

    def main_ended(self, status: int) -> None:
        """Report how, and end what it left behind."""
        self.running = False
        if os.WIFSIGNALED(status):
            self.tell(f"signal {os.WTERMSIG(status)}")
        else:
            self.tell(f"exit {os.WEXITSTATUS(status)}")
        self.signal_strays(signal.SIGTERM)
        if self.terminated and self.whole_group:
            return  # The rest was told as well, and has until the supervisor asks for SIGKILL.
        self.signal_group(signal.SIGTERM)
        if self.deadline is None:
            self.deadline = time.monotonic() + GRACE

    def obey(self, command: bytes) -> bool:
        """False when there will be no other command: the supervisor is gone."""
        if command == b"K":
            self.kill()
        elif command == b"T":
            self.terminate()
        else:
            self.signal_group(signal.SIGTERM)
            self.signal_strays(signal.SIGTERM)
            self.deadline = time.monotonic() + GRACE
        return bool(command)

    def terminate(self) -> None:
        self.terminated = True
        if self.whole_group:
            self.signal_group(signal.SIGTERM)
        elif self.running:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL for everything there is; called again, for what was adopted since."""
        if not self.killed:
            self.killed = True
            self.deadline = None
            self.signal_group(signal.SIGKILL)
        self.signal_strays(signal.SIGKILL)

    def forward(self, numbers: bytes) -> None:
        """Pass on what somebody else than the supervisor sent to the shim."""
        for number in numbers:
            if number in FORWARDED and self.running:
                os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        # A process group keeps its number while it has a member, so this cannot reach a stranger.
        if self.group_left():
            send(os.killpg, self.pid, number)

    def signal_strays(self, number: int) -> None:
        """Signal the adopted processes that left the group. They are not reaped yet, so they are still the same."""
        for pid in children() if LINUX else ():
            if group_of(pid) == self.pid or pid in self.condemned:
                continue
            if number == signal.SIGKILL:
                self.condemned.add(pid)
            send(os.kill, pid, number)

    def group_left(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
            return False
        return True

    def patience(self) -> float | None:
        """Milliseconds until something has to be looked at although no signal came; None for as long as it takes."""
        if not self.running:
            return PAUSE
        return None if self.deadline is None else max(0.0, (self.deadline - time.monotonic()) * 1000 + 1)

    def tell(self, line: str) -> None:
        try:
            os.write(self.report, line.encode() + b"\n")
        except BrokenPipeError:
            pass


def become(argv: list[str], parent: int, trouble: int, fds: list[int]) -> None:
    """In the forked child: turn into the program, or write the errno. Never returns."""
    # Out of the way of the low numbers first: one of them may be where another has to go.
    trouble = fcntl.fcntl(trouble, fcntl.F_DUPFD_CLOEXEC, 64)
    fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
    try:
        for number, fd in enumerate(fds, 3):
            os.dup2(fd, number)
        os.setpgid(0, 0)
        # Python ignores SIGPIPE, and an ignored signal stays ignored; so does what a shell ignores for its jobs.
        signal.set_wakeup_fd(-1)
        for number in (*FORWARDED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if LINUX:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(127)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(trouble, b"%d" % (error.errno or 0))
    finally:
        os._exit(127)


def prctl(option: int, value: int) -> None:
    """prctl(2); where it cannot be had, only the second net is missing."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def children() -> list[int]:
    """This process's children, from Linux's /proc."""
    me = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    # pid (command) state ppid …: the command may hold anything, parentheses included.
                    parent = stat.read().rpartition(b")")[2].split()[1]
            except (OSError, IndexError):
                continue
            if int(parent) == me:
                found.append(int(name))
    return found


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def send(kill: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        kill(target, number)
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":
    control, report = int(sys.argv[1]), int(sys.argv[2])
    for inherited in (control, report):
        os.set_inheritable(inherited, False)  # Not the program's business; it would keep the pipes open.
    passed = [int(fd) for fd in sys.argv[4].split(",")] if sys.argv[4] != "-" else []
    for inherited in passed:
        os.set_inheritable(inherited, False)
    Shim(control, report, sys.argv[3] == "group", passed, sys.argv[5:]).run()
