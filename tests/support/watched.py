"""Running `kpipe` under observation: what it opens, connects to and starts, how long it takes and how much memory.

There are two observers. `strace` sees all system calls, those of compiled libraries and child processes included, but
has to be installed and allowed. An audit hook of Python (PEP 578) is always there.
"""

from __future__ import annotations

import functools
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.shell import KPIPE, environment

#: Set where strace has to be there (.ci/run).
REQUIRED = "KPIPE_TEST_STRACE"
#: Address space in bytes, and seconds on a processor, of one command.
MEMORY, SECONDS = 2 << 30, 60

_HOOK = """\
import os, sys
_out = os.open(os.environ.pop("WATCHED_OUT"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_KINDS = {"open": 0, "os.listdir": 0, "os.scandir": 0, "socket.connect": 1, "socket.getaddrinfo": 0,
          "subprocess.Popen": 0, "os.exec": 0, "os.posix_spawn": 0, "os.system": 0, "os.fork": None, "os.forkpty": None}
def _hook(event, args):
    if event in _KINDS:
        at = _KINDS[event]
        what = "" if at is None else args[at]
        os.write(_out, f"{event} {what!r}\\n".encode("utf-8", "backslashreplace"))
sys.addaudithook(_hook)
"""
_PATHS = ("open", "os.listdir", "os.scandir")
_PROGRAMS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.forkpty")
_CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<words>.*)\) += (?P<result>-?\d+|\?)")
_TEXT = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"')


class Watched(NamedTuple):
    """`opened` are absolute paths, `connected` addresses, `started` programs. `peak` is in megabytes."""

    code: int
    output: str
    opened: frozenset[str]
    connected: tuple[str, ...]
    started: tuple[str, ...]
    peak: int


@functools.cache
def strace_works() -> str:
    """Why strace cannot be used here; "" when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-f", "-qq", "-e", "trace=execve", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else f"strace may not be used: {done.stderr.decode().strip()[:100]}"


def by_strace(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Watched:
    """Whatever system calls tell."""
    with tempfile.TemporaryDirectory() as aside:
        out = Path(aside) / "calls"
        calls = "trace=open,openat,openat2,creat,connect,sendto,sendmsg,execve,execveat"
        strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-s", "8192", "-e", calls, "-o", str(out)]
        code, output, peak = _run([*strace, KPIPE, *words], folder, env)
        found = [match for line in out.read_text("utf-8", "replace").splitlines() if (match := _CALL.match(line))]
    opened, connected, started = set(), [], []
    for call in found:
        text = _TEXT.search(call["words"])
        if call["name"] in ("connect", "sendto", "sendmsg"):
            connected.append(call["words"])
        elif call["name"].startswith("exec"):
            started += [text["text"]] if text is not None and call["result"] == "0" else []
        elif text is not None and call["result"] != "-1":
            opened.add(_absolute(folder, _unescaped(text["text"])))
    return Watched(code, output, frozenset(opened), tuple(connected), tuple(started[1:]), peak)


def by_hook(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Watched:
    """Whatever Python tells."""
    with tempfile.TemporaryDirectory() as aside:
        (Path(aside) / "sitecustomize.py").write_text(_HOOK)
        out = Path(aside) / "events"
        out.touch()
        code, output, peak = _run(
            [KPIPE, *words], folder, {"PYTHONPATH": aside, "WATCHED_OUT": str(out), **(env or {})}
        )
        events = [line.split(" ", 1) for line in out.read_text("utf-8", "replace").splitlines()]
    assert events, "the hook was not installed"
    paths = (what[1:-1] for kind, what in events if kind in _PATHS and what[:1] in "'\"")
    opened = {_absolute(folder, path) for path in paths if not path.startswith(aside)}
    connected = tuple(what for kind, what in events if kind.startswith("socket."))
    started = tuple(what for kind, what in events if kind in _PROGRAMS)
    return Watched(code, output, frozenset(opened), connected, started, peak)


def foreign(opened: frozenset[str], project: Path, programs: Iterable[str] = ()) -> list[str]:
    """Those of the paths that belong to neither the project, nor Python, nor kpipe, nor the system's libraries.

    git reads the user's own settings, too.
    """
    ours = (str(project), *_OURS, *(_SETTINGS if "git" in programs else ()))
    return sorted(path for path in opened if not any(path == own or path.startswith(f"{own}/") for own in ours))


_KPIPE = Path(__file__).parents[2]
_PLACES = (Path(sys.prefix), Path(sys.base_prefix), _KPIPE / "orchestrator")
_OURS = (
    *map(str, _PLACES),
    *map(os.path.realpath, _PLACES),
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/localtime", "/etc/locale.alias", "/etc/ssl"),
    *("/dev/null", "/dev/urandom", "/proc/self", "/proc/meminfo", "/sys/fs/cgroup", "/sys/devices/system/cpu"),
)


_SETTINGS = ("/etc/gitconfig", *(str(Path.home() / name) for name in (".gitconfig", ".config/git")))


def _run(argv: list[str], folder: Path, env: Mapping[str, str] | None) -> tuple[int, str, int]:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    process = subprocess.Popen(
        argv, cwd=folder, env=environment({"PYTHONDONTWRITEBYTECODE": "1", **(env or {})}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=limited,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read().decode("utf-8", "replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, output, usage.ru_maxrss // 1024


def _absolute(folder: Path, path: str) -> str:
    # Not `resolve`: what was opened is the path as it was given, and a link says where it leads.
    return os.path.realpath(folder / path) if not path.startswith(("/proc", "/dev")) else path


def _unescaped(text: str) -> str:
    return text.encode().decode("unicode_escape").encode("latin-1", "replace").decode("utf-8", "replace")
