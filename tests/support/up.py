"""`kpipe up` in a folder of its own, from outside."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.supervised import marked, wait_until

CODE = "import sys; from orchestrator.cli.main import main; sys.exit(main())"

#: A service that answers 200, says what it does, and drains at SIGTERM.
WEB = """
import http.server, os, signal, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer)
def stop(*_):
    print("draining", flush=True)
    threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, stop)
print("listening", flush=True)
server.serve_forever()
print("drained", flush=True)
"""
IDLE = "import time; print('idle', flush=True); time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
CRASH = "import sys; print('boom', file=sys.stderr); sys.exit(3)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Project:
    """A folder with a pipeline of services, each a Python program. `mark` is in the command line of each."""

    def __init__(self, folder: Path, bootstrap: str, services: Mapping[str, str], **options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.mark = secrets.token_hex(8)
        lines = ["kpipe: 1", f"pipeline: p{self.mark}", f"kafka: {{bootstrap: '{bootstrap}'}}", "handlers:"]
        for name, code in services.items():
            (folder / f"{name}.py").write_text(code)
            more = options.get(name.replace("-", "_"), "")
            lines.append(f"  {name}: {{service: python {name}.py {self.mark}{', ' + more if more else ''}}}")
        (folder / "pipeline.yaml").write_text("\n".join(lines) + "\n")

    @property
    def processes(self) -> list[Any]:
        return marked(self.mark)

    @property
    def state(self) -> Path:
        return self.folder / ".kpipe"

    def kpipe(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", CODE, *words], cwd=self.folder, capture_output=True, text=True, timeout=60, **more
        )  # fmt: skip

    @contextlib.contextmanager
    def up(self, *words: str, **more: Any) -> Iterator[Up]:
        started = Up(self, words, more)
        try:
            yield started
        finally:
            started.process.kill()
            started.process.wait()
            wait_until("nothing left of it", lambda: not self.processes)


class Up:
    """A running `kpipe up`; what it says is in files."""

    def __init__(self, project: Project, words: tuple[str, ...], more: dict[str, Any]) -> None:
        self.project = project
        self._out, self._err = project.folder / "stdout", project.folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*more.pop("before", ()), sys.executable, "-c", CODE, *words, "up", *more.pop("after", ())],
                **{"cwd": project.folder, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **more},
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def says(self, text: str, seconds: float = 30.0) -> None:
        """Wait until it has said so, on stdout or stderr."""
        wait_until(
            f"{text!r} in:\n{self.err}\n{self.out}",
            lambda: text in self.err or text in self.out or self.process.poll() is not None,
            seconds,
        )
        assert text in self.err + self.out, f"it ended with {self.process.returncode}:\n{self.err}\n{self.out}"

    def ready(self) -> Up:
        self.says("next: ")
        return self

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def ended(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)
