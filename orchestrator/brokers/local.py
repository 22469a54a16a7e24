"""The local broker: one Apache Kafka node (KRaft) on loopback for one project folder.

Two kinds of runners share it. `start` runs it by itself, beyond the end of the command. `kpipe up` takes
`prepare`, starts the argv in its own way, then calls `record` and `wait_ready`; so the process's life is tied
to the supervisor's there. From `prepare` to the end of `wait_ready` no other command can start this
project's broker (a lock under `.kpipe/`).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.brokers import diagnose, process, storage
from orchestrator.brokers import record as records
from orchestrator.brokers.install.distribution import provide_kafka
from orchestrator.brokers.install.java import find_java
from orchestrator.brokers.jvm import broker_argv, child_environment
from orchestrator.brokers.lock import take
from orchestrator.brokers.model import (
    AlreadyRunning,
    BrokerKind,
    BrokerRecord,
    BrokerState,
    BrokerStatus,
    LaunchSpec,
    Notify,
    Ping,
    PortTaken,
    Progress,
    StartedBy,
    quiet,
)
from orchestrator.brokers.ports import LOOPBACK, accepts, choose_ports, remembered_ports
from orchestrator.brokers.settings import DATA, LOG_FILE, log4j2_properties, server_properties
from orchestrator.errors import BrokerError, UsageError
from orchestrator.state import check_own, claimed, inner, made_inner

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
        pid = process.find_broker(self._home) if self._has_home() else None
        if pid is None:
            return None
        # Its starter was killed before it could write the record, or somebody deleted the file.
        return BrokerRecord(self._last_address(), "local", pid, "broker", storage.cluster_id(self._home))

    def prepare(self) -> LaunchSpec:
        """Java, Kafka (fetched if need be), ports, configuration, formatted storage: ready to be run.

        Raises `AlreadyRunning`, or `BrokerError` when something can't be had.
        """
        try:
            self._take_lock()
            found = self.running()
            if found:
                raise AlreadyRunning(found)
            self._refuse_a_second_kafka()
            return self._prepared()
        except OSError as problem:
            self.release()
            raise diagnose.explain_disk(self._state, problem) from problem
        except BaseException:
            self.release()
            raise

    def record(self, spec: LaunchSpec, pid: int, started_by: StartedBy) -> BrokerRecord:
        """Tell all other commands where the broker is. With "up" the caller is its owner."""
        owner = os.getpid() if started_by == "up" else None
        made = BrokerRecord(spec.address, "local", pid, started_by, spec.cluster_id, spec.version, owner)
        records.write(self._state, made)
        return made

    def answers(self, spec: LaunchSpec) -> bool:
        """Whether Kafka answers at `spec.address`, and is the one that was started there."""
        port = _port(spec.address)
        if not accepts(port) or not self._ping(spec.address):
            return False
        pid = process.find_broker(self._home)
        return pid is not None and process.listens(pid, port)

    def wait_ready(
        self,
        spec: LaunchSpec,
        timeout: float,
        alive: Callable[[], bool],
        output: Callable[[], str] = str,
    ) -> None:
        """Return when Kafka answers at `spec.address`.

        `alive` says whether the started process still runs, `output` what it printed. Raises `BrokerError`: with
        the reason from Kafka's log when it ended, or when `timeout` seconds are over.
        """
        deadline = time.monotonic() + timeout
        try:
            while not self.answers(spec):
                if not alive():
                    raise diagnose.explain(spec, output())
                if time.monotonic() > deadline:
                    raise _too_slow(spec.address, timeout, spec.log)
                time.sleep(_POLL_SECONDS)
        finally:
            self.release()

    def start(self, timeout: float = 60.0) -> str:
        """Run it by itself: it outlives this process. Returns its address; fine when it runs already."""
        taken: BrokerError | None = None
        for _ in range(_STARTS):
            try:
                return self._start_once(timeout)
            except AlreadyRunning as found:
                if self._adopted(found.record, timeout):
                    return found.record.address
            except PortTaken as problem:
                taken = problem
        raise taken or BrokerError("Kafka ended as soon as it was found running", f"its log: {self._logs / LOG_FILE}")

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
        answers = bool(found.address) and self._ping(found.address)
        state: BrokerState = "running" if answers else "unreachable"
        return BrokerStatus(
            "local", state, found.address or None, found.pid, found.started_by, found.version or None,
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
        try:
            with inner(self._state / records.HOME) as home:
                if home is not None:
                    home.delete(DATA)
        except OSError as problem:
            raise BrokerError(f"Kafka's data can't be deleted: {problem}") from problem

    def release(self) -> None:
        """Let other commands start this broker again: for a runner that gave up between its steps."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _refuse_a_second_kafka(self) -> None:
        known = records.read(self._state)
        if known and known.kind == "docker" and self._ping(known.address):
            raise UsageError(
                f"this project's Kafka runs in Docker already (at {known.address})",
                "use `--kafka docker`, or stop that one with `kpipe broker stop`",
            )

    def _take_lock(self) -> None:
        if self._lock is None:
            with claimed(self._state) as folder:
                check_own(folder)
                handle = folder.open(records.LOCK, os.O_RDWR | os.O_CREAT)
            waiting = Progress("Another kpipe is starting this broker: waiting")
            self._lock = take(handle, lambda: self._notify(waiting))

    def _prepared(self) -> LaunchSpec:
        java = find_java(self._environ)
        kafka = provide_kafka(self._environ, self._notify)
        environment = child_environment(self._environ)
        with made_inner(self._state / records.HOME) as home, made_inner(self._state / "logs") as logs:
            os.fchmod(home.fd, 0o700)  # an older kpipe made it for everybody to read
            # Kafka follows links, and writes and deletes where they lead.
            home.check()
            logs.check()
            storage.check_unused(self._home)
            ports = choose_ports(self._home / storage.PORTS)
            home.write("log4j2.properties", log4j2_properties())
            storage.format_once(self._home, java.path, kafka, ports, environment, self._notify)
            home.write("server.properties", server_properties(ports))
            before = logs.stat(LOG_FILE)
        log = self._logs / LOG_FILE
        return LaunchSpec(
            argv=broker_argv(java, kafka, self._home, self._environ),
            env=environment,
            cwd=self._home,
            address=f"{LOOPBACK}:{ports.broker}",
            log=log,
            log_start=before.st_size if before else 0,
            version=kafka.version,
            cluster_id=storage.cluster_id(self._home),
        )

    def _start_once(self, timeout: float) -> str:
        spec = self.prepare()
        self._notify(Progress(f"Starting Kafka {spec.version} at {spec.address}"))
        with os.fdopen(self._output(os.O_RDWR | os.O_CREAT), "wb") as out:
            out.truncate(0)
            child = subprocess.Popen(
                spec.argv, cwd=spec.cwd, env=dict(spec.env), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True, umask=spec.umask,
            )  # fmt: skip
        try:
            self.record(spec, child.pid, "broker")
            self.wait_ready(spec, timeout, lambda: child.poll() is None, self._printed)
        except BaseException:
            # Nothing half-started stays behind, on Ctrl-C either.
            process.end(child.pid, self._home, _TO_END_A_FAILED_START)
            child.wait()
            self.forget()
            raise
        return spec.address

    def _output(self, flags: int) -> int:
        """The file with what Java itself prints."""
        with made_inner(self._state / "logs") as logs:
            return logs.open("broker.out", flags)

    def _printed(self) -> str:
        with os.fdopen(self._output(os.O_RDONLY), "rb") as file:
            return file.read(diagnose.TAIL_BYTES).decode("utf-8", "replace")

    def _has_home(self) -> bool:
        with inner(self._state / records.HOME) as home:
            return home is not None

    def _adopted(self, found: BrokerRecord, timeout: float) -> bool:
        """See to it that a broker which runs already is on record and answers; False when it ended meanwhile."""
        if not found.address:
            raise BrokerError(
                f"this project's Kafka runs (process {found.pid}), but where it listens is not known any more",
                "`kpipe broker stop` ends it",
            )
        if records.read(self._state) != found:
            records.write(self._state, found)
        deadline = time.monotonic() + timeout
        while not (accepts(_port(found.address)) and self._ping(found.address)):
            if self.running() is None:
                return False
            if time.monotonic() > deadline:
                raise _too_slow(found.address, timeout, self._logs / LOG_FILE)
            time.sleep(_POLL_SECONDS)
        return True

    def _last_address(self) -> str:
        """Where this project's broker was last told to listen; "" when that was deleted."""
        ports = remembered_ports(self._home / storage.PORTS)
        return f"{LOOPBACK}:{ports.broker}" if ports else ""


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _too_slow(address: str, timeout: float, log: Path) -> BrokerError:
    return BrokerError(f"Kafka did not answer at {address} within {timeout:g} s", f"its log: {log}")
