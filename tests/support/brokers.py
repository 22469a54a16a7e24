"""Apache Kafka for chaos: one broker or three, each a process that can be killed, paused and started again.

Three make a static quorum: replication 3, `min.insync.replicas=2`. The jars are those that kpipe itself runs.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.brokers.install.distribution import Kafka, provide_kafka
from orchestrator.brokers.install.java import Java, find_java
from orchestrator.brokers.jvm import broker_argv, child_environment, format_argv
from orchestrator.brokers.ports import is_free
from orchestrator.brokers.settings import SHARED, log4j2_properties
from orchestrator.brokers.storage import new_cluster_id
from tests.support.worker import until

ROOT = Path(__file__).parents[2]
HEAP = {"KAFKA_HEAP_OPTS": "-Xms64m -Xmx384m"}
START_SECONDS = 90.0


class Broker:
    """One node: its folder, its port, and its process while it runs."""

    def __init__(self, node: int, home: Path, port: int, argv: tuple[str, ...]) -> None:
        self.node, self.home, self.port = node, home, port
        self._argv = argv
        self._tied: subprocess.Popen[bytes] | None = None
        self._kafka: psutil.Process | None = None

    def start(self) -> None:
        """Start it, bound to this process: it does not outlive the test run."""
        assert not self.runs
        argv = [sys.executable, str(ROOT / "tests" / "support" / "tied.py"), *self._argv]
        with (self.home / "printed").open("ab") as out:
            self._tied = subprocess.Popen(
                argv, cwd=self.home, env=child_environment(os.environ), stdin=subprocess.PIPE, stdout=out,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        wrapper = psutil.Process(self._tied.pid)
        self._kafka = until("Kafka's process", lambda: next(iter(wrapper.children()), None))

    @property
    def runs(self) -> bool:
        return self._tied is not None and self._tied.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        if self._tied is not None:
            assert self._tied.stdin is not None
            self._tied.stdin.close()
            self._tied.wait(30)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._kafka is not None:
            with suppress(psutil.NoSuchProcess):
                self._kafka.send_signal(number)


@dataclass
class Brokers:
    """The cluster. `bootstrap` names every node."""

    nodes: list[Broker]

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def wait_whole(self, seconds: float = START_SECONDS) -> None:
        """Until every node is in the cluster and every replica is in sync."""
        # A short socket timeout: a request to a node that was paused in the middle of it is given up soon.
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "socket.timeout.ms": 3_000, "log_level": 0})
        until("the whole cluster in sync", lambda: self._whole(admin), seconds)

    def _whole(self, admin: AdminClient) -> bool:
        try:
            seen: Any = admin.list_topics(timeout=3)
        except KafkaException:
            return False
        parts = [part for topic in seen.topics.values() for part in topic.partitions.values()]
        return len(seen.brokers) == len(self.nodes) and all(
            part.leader >= 0 and len(part.isrs) == len(part.replicas) for part in parts
        )


@contextmanager
def brokers_in(folder: Path, count: int) -> Iterator[Brokers]:
    """So many brokers with their data in `folder`, in sync when the block begins, gone when it ends."""
    java, kafka = find_java(os.environ), provide_kafka(os.environ)
    # Below the range of outgoing connections: one of those could sit on the port when its broker comes back.
    free = [port for port in random.sample(range(20_000, 30_000), 50) if is_free(port)]
    ports = list(zip(free[:count], free[count:], strict=False))
    cluster = new_cluster_id()
    nodes = [_prepared(folder, node, ports, cluster, java, kafka) for node in range(1, count + 1)]
    made = Brokers(nodes)
    try:
        for node in nodes:
            node.start()
        made.wait_whole()
        yield made
    finally:
        for node in nodes:
            node.kill()


def _prepared(folder: Path, node: int, ports: list[tuple[int, int]], cluster: str, java: Java, kafka: Kafka) -> Broker:
    home = folder / f"broker-{node}" / "home"
    home.mkdir(parents=True)
    (home.parent / "logs").mkdir()
    (home / "log4j2.properties").write_text(log4j2_properties())
    (home / "server.properties").write_text(_properties(node, ports))
    subprocess.run(
        format_argv(java.path, kafka, cluster, "server.properties"), cwd=home, env=child_environment(os.environ),
        stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return Broker(node, home, ports[node - 1][0], broker_argv(java, kafka, home, {**os.environ, **HEAP}))


def _properties(node: int, ports: list[tuple[int, int]]) -> str:
    client, controller = ports[node - 1]
    voters = ",".join(f"{i}@127.0.0.1:{port}" for i, (_, port) in enumerate(ports, start=1))
    replicas = str(len(ports))
    in_sync = str(max(1, len(ports) - 1))
    lines = {
        **SHARED,
        "node.id": str(node),
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{client}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": voters,
        "log.dirs": "data",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # A follower that was killed or paused is out of the in-sync set, and back in it, within seconds.
        "replica.lag.time.max.ms": "5000",
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def main() -> None:
    """Three brokers until standard input ends, to try things by hand: prints where they are."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with brokers_in(Path(folder), int(sys.argv[1])) as made:
            print(f"{made.bootstrap} after {time.monotonic() - began:.1f} s", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
