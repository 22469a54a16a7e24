"""Where `kpipe smoke` tries a pipeline: a `kpipe up` of its own, apart from whatever runs in the folder.

It has a state folder of its own (`KPIPE_STATE_DIR`), free ports, and a Kafka of its own, or a namespace of its own on a
cluster that is there; said in an overlay of the pipeline file. It runs behind the shim, so that nothing of it outlives
this process, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator import shim
from orchestrator.brokers.ports import free_ports
from orchestrator.config import load
from orchestrator.config.model import Pipeline
from orchestrator.errors import (
    EXIT_BROKER,
    EXIT_HANDLER,
    BrokerError,
    FindingsError,
    HandlerError,
    KpipeError,
    WaitTimeout,
)
from orchestrator.operations.readiness import LOOK_EVERY, look, not_ready
from orchestrator.supervisor.control.status import PipelineStatus

_SECURITY = ("security.", "sasl.", "ssl.")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
#: How long handlers and Kafka may take to end by themselves (seconds).
_STOP_SECONDS = 30.0
#: How long an `up` that has lost its Kafka or an essential handler may take to end (seconds).
_DYING_SECONDS = 3.0
_LAST_LINES = 12


class RunningPipeline:
    """The pipeline that `kpipe up` already runs here."""

    def __init__(self, pipeline: Pipeline, bootstrap: str) -> None:
        self.pipeline = pipeline
        self.bootstrap = bootstrap
        self.state_dir = pipeline.state_dir

    def close(self, *, keep: bool) -> None:
        pass


class Sandbox:
    """A pipeline that is tried. `pipeline` is the file with the overlay; `state_dir` is where its `up` is asked."""

    def __init__(
        self,
        files: tuple[Path, ...],
        pipeline: Pipeline,
        bootstrap: str,
        env: Mapping[str, str],
        kpipe: Sequence[str],
    ) -> None:
        """`bootstrap` "": a Kafka of its own. `kpipe` starts the command line, before its arguments.

        Raises FindingsError when the file does not allow for that."""
        self._kpipe = kpipe
        self.folder = Path(tempfile.mkdtemp(prefix="kpipe-smoke-"))
        self.state_dir = self.folder / "state"
        self._clean_up = bool(bootstrap)
        self._child: subprocess.Popen[bytes] | None = None
        self._control = self._report = -1
        try:
            overlay = self.folder / "smoke-overlay.yaml"
            overlay.write_text(json.dumps(_overlay(pipeline, bootstrap) | _env(pipeline, env)), "utf-8")
            self._files = tuple(path.absolute() for path in (*files, overlay))
            self._environ = {**os.environ, **env, "KPIPE_STATE_DIR": str(self.state_dir)}
            loaded = load(self._files, self._environ)
            if loaded.pipeline is None:
                raise FindingsError(loaded.findings, "the pipeline cannot be tried by itself")
            self.pipeline = loaded.pipeline
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.bootstrap = bootstrap

    @property
    def log(self) -> Path:
        """What `up` and the handlers print."""
        return self.folder / "up.log"

    def start(self, seconds: float) -> None:
        """Return when every handler is ready. Raises `HandlerError`, `BrokerError` and `WaitTimeout`."""
        files = [word for path in self._files for word in ("-f", str(path))]
        argv = [*self._kpipe, *files, "--no-color", "up"]
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        with self.log.open("wb") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(shim.__file__), str(theirs_in), str(theirs_out), "main", "-", *argv],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=self._environ,
                cwd=self.pipeline.base, pass_fds=(theirs_in, theirs_out), start_new_session=True,
            )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._control, self._report = ours_out, ours_in
        self._wait_ready(time.monotonic() + seconds, seconds)

    def _wait_ready(self, deadline: float, seconds: float) -> None:
        assert self._child is not None
        missing = ["it has not begun"]
        while True:
            answer: PipelineStatus | None = None
            if self._child.poll() is not None:
                raise self._failed()
            with contextlib.suppress(KpipeError):  # it is just beginning, or ending
                answer = look(self.state_dir, seen=False)
            if answer is not None:
                missing = not_ready(answer, ())
                if not missing:
                    self.bootstrap = answer.bootstrap
                    return
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"not ready within {seconds:g} s: {', '.join(missing)}", f"it has said:\n{self.said()}"
                )
            time.sleep(LOOK_EVERY)

    def explained(self, problem: KpipeError) -> KpipeError:
        """What went wrong while it was tried: in the words of `up` if that has ended, else with what it said last."""
        assert self._child is not None
        try:
            self._child.wait(_DYING_SECONDS)
        except subprocess.TimeoutExpired:
            return type(problem)(problem.message, f"it has said:\n{self.said()}")
        return self._failed()

    def _failed(self) -> KpipeError:
        """Why `up` has ended, in its own words."""
        code = self._exit_code()
        lines = [line for line in self.log.read_text("utf-8", "replace").splitlines() if line]
        error = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "")
        kind = {EXIT_HANDLER: HandlerError, EXIT_BROKER: BrokerError}.get(code or 0, KpipeError)
        return kind(error or f"the pipeline ended with {code} by itself", f"it has said:\n{self.said()}")

    def _exit_code(self) -> int | None:
        """What the shim reports last: `exit CODE`."""
        text = b""
        while chunk := os.read(self._report, 4096):
            text += chunk
        ends = [line for line in text.decode().splitlines() if line.startswith("exit ")]
        return int(ends[-1].split()[1]) if ends else None

    def said(self, lines: int = _LAST_LINES) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(f"  {line}" for line in self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""

    def close(self, *, keep: bool) -> None:
        """End everything that was started, and remove what it has written, unless it is to be kept."""
        try:
            self._stop()
            if self._clean_up:
                _remove_topics(self.pipeline, self.bootstrap)
        finally:
            for fd in (self._control, self._report):
                if fd >= 0:
                    os.close(fd)
            self._control = self._report = -1
            if not keep:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _stop(self) -> None:
        if self._child is None:
            return
        for command, seconds in ((b"T", _STOP_SECONDS), (b"K", 5.0)):
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                os.write(self._control, command)
            try:
                self._child.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                continue


def _overlay(pipeline: Pipeline, bootstrap: str) -> dict[str, Any]:
    """What is different where a pipeline is tried: Kafka, ports, and one replica where Kafka has one node."""
    handlers = _ports(pipeline)
    if bootstrap:
        return {"namespace": f"smoke-{secrets.token_hex(4)}", "kafka": {"bootstrap": bootstrap}, "handlers": handlers}
    kafka: dict[str, Any] = {"bootstrap": ""}
    for kind in ("client", "consumer", "producer", "admin"):
        secret = [name for name in getattr(pipeline.kafka, kind) if name.startswith(_SECURITY)]
        if secret:
            kafka[kind] = dict.fromkeys(secret)  # null: as if the file did not say it
    topics = {topic.name: _single(topic.configs) for topic in pipeline.topics.values() if topic.replication > 1}
    return {"kafka": kafka, "topics": topics, "handlers": handlers}


def _env(pipeline: Pipeline, env: Mapping[str, str]) -> dict[str, Any]:
    """The smoke files' `env` for every handler, below what the pipeline file itself says."""
    own = pipeline.tree.get("defaults", {}).get("handler", {}).get("env", {})
    more = {name: value.replace("$", "$$") for name, value in env.items() if name not in own}
    return {"defaults": {"handler": {"env": more}}} if more else {}


def _single(configs: Mapping[str, str]) -> dict[str, Any]:
    return {"replication": 1} | ({"configs": {"min.insync.replicas": 1}} if "min.insync.replicas" in configs else {})


def _ports(pipeline: Pipeline) -> dict[str, Any]:
    """A free port for each service, and the URLs of `http:` handlers that post to one of them."""
    services = [handler for handler in pipeline.handlers.values() if handler.port is not None]
    fresh = dict(zip((h.port for h in services), free_ports(len(services)), strict=True))
    changed: dict[str, Any] = {handler.name: {"port": fresh[handler.port]} for handler in services}
    for handler in pipeline.handlers.values():
        if handler.kind == "http" and isinstance(handler.target, str):
            url = urlsplit(handler.target)
            if url.hostname in _LOOPBACK and url.port in fresh:
                changed[handler.name] = {"http": url._replace(netloc=f"{url.hostname}:{fresh[url.port]}").geturl()}
    return changed


def _remove_topics(pipeline: Pipeline, bootstrap: str) -> None:
    """From a cluster that others use: the topics of this run's namespace."""
    from orchestrator.kafka.clients import Clients

    admin = Clients(pipeline.kafka, bootstrap).admin()
    ours = [name for name in admin.topic_names() if name.startswith(f"{pipeline.namespace}.")]
    if ours:
        admin.delete(ours)
