"""The local broker: one Apache Kafka node (KRaft) on loopback for one project folder.

Two kinds of runners share it. `start` runs it by itself, beyond the end of the command. `kpipe up` takes
`prepare`, starts the argv in its own way, then calls `record` and `wait_ready`; so the process's life is tied
to the supervisor's there. From `prepare` to the end of `wait_ready` no other command can start this
project's broker (a lock under `.kpipe/`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.brokers import diagnose, process, storage
from orchestrator.brokers import record as records
from orchestrator.brokers.distribution import provide_kafka
from orchestrator.brokers.java import find_java
from orchestrator.brokers.jvm import broker_argv, child_environment
from orchestrator.brokers.lock import take
from orchestrator.brokers.model import (
    AlreadyRunning,
    BrokerKind,
    BrokerRecord,
    BrokerStatus,
    LaunchSpec,
    Notify,
    Ping,
    PortTaken,
    Progress,
    StartedBy,
    quiet,
)
from orchestrator.brokers.ports import LOOPBACK, choose_ports
from orchestrator.brokers.settings import DATA, LOG_FILE, log4j2_properties, server_properties
from orchestrator.errors import BrokerError, UsageError, WaitTimeout

_POLL_SECONDS = 0.1
_STARTS = 3
_TO_END_A_FAILED_START = 10.0


class LocalBroker:
    """The broker of the project whose state is in `state_dir` (`Pipeline.state_dir`)."""

    kind: BrokerKind = "local"

    def __init__(
        self,
        state_dir: Path,
        ping: Ping,
        *,
        environ: Mapping[str, str] | None = None,
        notify: Notify = quiet,
    ) -> None:
        self._state = state_dir
        self._home = records.home(state_dir)
        self._logs = state_dir.resolve() / "logs"
        self._ping = ping
        self._environ = dict(os.environ if environ is None else environ)
        self._notify = notify
        self._lock: int | None = None

    def running(self) -> BrokerRecord | None:
        """This project's broker process, whoever started it and whether it answers or not; None without one."""
        known = records.read(self._state)
        if known and known.kind == "local" and known.pid and process.broker_runs(known.pid, self._home):
            return known
        pid = process.find_broker(self._home) if self._home.is_dir() else None
        if pid is None:
            return None
        # Its starter was killed before it could write the record, or somebody deleted the file.
        return BrokerRecord(storage.last_address(self._home), "local", pid, "broker", storage.cluster_id(self._home))

    def prepare(self) -> LaunchSpec:
        """Java, Kafka (fetched if need be), ports, configuration, formatted storage: ready to be run.

        Raises `AlreadyRunning`, or `BrokerError` when something can't be had.
        """
        self._take_lock()
        try:
            found = self.running()
            if found:
                raise AlreadyRunning(found)
            return self._prepared()
        except BaseException:
            self.release()
            raise

    def record(self, spec: LaunchSpec, pid: int, started_by: StartedBy) -> BrokerRecord:
        """Tell all other commands where the broker is. With "up" the caller is its owner."""
        owner = os.getpid() if started_by == "up" else None
        made = BrokerRecord(spec.address, "local", pid, started_by, spec.cluster_id, spec.version, owner)
        records.write(self._state, made)
        return made

    def wait_ready(
        self,
        spec: LaunchSpec,
        timeout: float,
        alive: Callable[[], bool],
        output: Callable[[], str] = str,
    ) -> None:
        """Return when Kafka answers at `spec.address`.

        `alive` says whether the started process still runs, `output` what it printed. Raises `BrokerError` with
        the reason from Kafka's log when it ended, `WaitTimeout` after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        try:
            while not self._ping(spec.address):
                if not alive():
                    raise diagnose.explain(spec, output())
                if time.monotonic() > deadline:
                    raise WaitTimeout(
                        f"Kafka did not answer at {spec.address} within {timeout:g} s", f"its log: {spec.log}"
                    )
                time.sleep(_POLL_SECONDS)
        finally:
            self.release()

    def start(self, timeout: float = 60.0) -> str:
        """Run it by itself: it outlives this process. Returns its address; fine when it runs already."""
        for attempt in range(1, _STARTS + 1):
            try:
                return self._start_once(timeout)
            except AlreadyRunning as found:
                return self._adopt(found.record, timeout)
            except PortTaken:
                if attempt == _STARTS:
                    raise
        raise AssertionError("unreachable")

    def stop(self, timeout: float = 30.0) -> bool:
        """SIGTERM and wait; after `timeout` seconds SIGKILL. False when nothing ran.

        Raises `UsageError` when a running `kpipe up` owns it: its handlers would lose their broker.
        """
        found = self.running()
        if found is None:
            self.forget()
            return False
        if found.owner_pid and found.owner_pid != os.getpid() and process.alive(found.owner_pid):
            raise UsageError(
                f"the broker belongs to the running `kpipe up` (process {found.owner_pid})",
                "`kpipe down` stops both",
            )
        assert found.pid is not None  # running() names a process
        if not process.end(found.pid, self._home, timeout):
            self._notify(Progress(f"Kafka did not stop within {timeout:g} s: killed; it recovers at its next start"))
        self.forget()
        return True

    def status(self) -> BrokerStatus:
        found = self.running()
        data, log = self._home / DATA, self._logs / LOG_FILE
        if found is None:
            return BrokerStatus("local", "stopped", data=data, log=log)
        state = "running" if self._ping(found.address) else "unreachable"
        return BrokerStatus(
            "local", state, found.address, found.pid, found.started_by, found.version or None,
            found.cluster_id or None, data, log,
        )  # fmt: skip

    def forget(self) -> None:
        """Remove the record: for a runner whose broker has ended."""
        known = records.read(self._state)
        if known is None or known.kind == "local":
            records.remove(self._state)

    def wipe(self) -> None:
        """Delete this project's Kafka data. Raises `BrokerError` while the broker runs."""
        if self.running():
            raise BrokerError("the local Kafka still runs: its data can't be deleted", "`kpipe broker stop` first")
        shutil.rmtree(self._home, ignore_errors=True)

    def release(self) -> None:
        """Let other commands start this broker again: for a runner that gave up between its steps."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock is None:
            self._lock = take(
                self._state / "broker.lock",
                lambda: self._notify(Progress("Another kpipe is starting this broker: waiting")),
            )

    def _prepared(self) -> LaunchSpec:
        java = find_java(self._environ)
        kafka = provide_kafka(self._environ, self._notify)
        self._home.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        ports = choose_ports(self._home / storage.PORTS)
        environment = child_environment(self._environ)
        (self._home / "log4j2.properties").write_text(log4j2_properties(), "ascii")
        storage.format_once(self._home, java.path, kafka, ports, environment, self._notify)
        (self._home / "server.properties").write_text(server_properties(ports), "ascii")
        log = self._logs / LOG_FILE
        return LaunchSpec(
            argv=broker_argv(java, kafka, self._home, self._environ),
            env=environment,
            cwd=self._home,
            address=f"{LOOPBACK}:{ports.broker}",
            log=log,
            log_start=log.stat().st_size if log.exists() else 0,
            version=kafka.version,
            cluster_id=storage.cluster_id(self._home),
        )

    def _start_once(self, timeout: float) -> str:
        spec = self.prepare()
        self._notify(Progress(f"Starting Kafka {spec.version} at {spec.address}"))
        printed = self._logs / "broker.out"
        with printed.open("wb") as out:
            child = subprocess.Popen(
                spec.argv, cwd=spec.cwd, env=dict(spec.env), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self.record(spec, child.pid, "broker")
            self.wait_ready(spec, timeout, lambda: child.poll() is None, lambda: printed.read_text("utf-8", "replace"))
        except BaseException:
            # Nothing half-started stays behind, on Ctrl-C either.
            process.end(child.pid, self._home, _TO_END_A_FAILED_START)
            child.wait()
            self.forget()
            raise
        return spec.address

    def _adopt(self, found: BrokerRecord, timeout: float) -> str:
        """A broker that runs already: make sure that it is on record and that it answers."""
        if records.read(self._state) != found:
            records.write(self._state, found)
        deadline = time.monotonic() + timeout
        while not self._ping(found.address):
            if self.running() is None:
                return self._start_once(timeout)
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"Kafka runs (process {found.pid}) but does not answer at {found.address}",
                    f"`kpipe broker stop`, then start it again; its log: {self._logs / LOG_FILE}",
                )
            time.sleep(_POLL_SECONDS)
        return found.address
