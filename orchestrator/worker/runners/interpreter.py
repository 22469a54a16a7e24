"""`python:` handlers with an `interpreter:` of their own: run by that, as a program of the `exec:` protocol."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from orchestrator.config.model import Handler
from orchestrator.errors import HandlerError
from orchestrator.outside import shown
from orchestrator.worker.runners.command import Command, command_of
from orchestrator.worker.runners.exec import ExecHandler

#: How `interpreter_main.py` gets its configuration: its words would be in the list of processes.
CONFIG = "KPIPE_FOREIGN_CONFIG"
_FOREIGN = Path(__file__).with_name("interpreter_main.py")
_PROBE = "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 3)"
#: What importing a handler's module may take (seconds).
START_SECONDS = 60.0


def load_foreign(handler: Handler, base: Path) -> ExecHandler:
    """The handler under its own Python, once that has found the function. Raises HandlerError."""
    config = {
        "target": handler.target,
        "timeout": None if handler.timeout == float("inf") else handler.timeout,
        "by": None if handler.dedup is None else handler.dedup.by,
        "unavailable": list(handler.unavailable),
        "concurrency": handler.concurrency,
    }
    python = handler.interpreter or ""
    name = f"handler {handler.name}: `interpreter: {shown(python)}`"
    target = shown(handler.target) if isinstance(handler.target, str) else ""
    command = command_of((python, str(_FOREIGN)), base, {CONFIG: json.dumps(config)})
    version = _run(handler, (python, "-c", _PROBE), command)
    if version.returncode == 3:
        raise HandlerError(f"{name} is older than Python 3.11")
    if version.returncode:
        raise HandlerError(f"{name} is no Python: {_last(version.stderr)}")
    check = _run(handler, (*command.argv, "--check"), command)
    if check.returncode:
        raise HandlerError(
            f"handler {handler.name}: {target} cannot be loaded by {shown(python)}: {_last(check.stderr)}",
            f"modules are looked for in {base} first, then in those of {shown(python)}",
        )
    return ExecHandler(handler, command)


def _run(handler: Handler, argv: tuple[str, ...], command: Command) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, cwd=command.cwd, env=dict(command.env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=START_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        python = shown(argv[0])
        raise HandlerError(f"handler {handler.name}: {python} did not load it within {START_SECONDS:g} s") from None
    except OSError as e:
        why = os.strerror(e.errno or 0)
        raise HandlerError(
            f"handler {handler.name}: `interpreter: {shown(argv[0])}` cannot be run: {why}",
            "give its path, or a name that is found on the PATH",
        ) from e


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
