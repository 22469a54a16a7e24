"""A pipeline in a temporary folder, and real worker processes on it, as the supervisor would start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.config import load, portable
from orchestrator.config.model import Pipeline
from orchestrator.contracts import with_schemas
from orchestrator.errors import BrokerError
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.producer import Producer
from orchestrator.kafka.properties import client_properties
from orchestrator.kafka.reader import Reader
from orchestrator.provisioning.plan import specs
from orchestrator.records import Headers, Outgoing, Record, TopicPartition


def until(what: str, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Poll `condition` until it holds; its value. Fails with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class Project:
    """A folder with a pipeline file, handler code and provisioned topics on a real cluster."""

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        yaml: str,
        code: Mapping[str, str] = {},
        kafka: str = "",
    ) -> None:
        """`kafka` is more of the file's section of that name, in YAML's flow style: `consumer: {…}`."""
        self.folder = folder
        self.bootstrap = bootstrap
        self.namespace = f"t{uuid.uuid4().hex[:10]}"
        for name, text in code.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        text = (
            f"kpipe: 1\nnamespace: {self.namespace}\nkafka: {{bootstrap: '{bootstrap}', {kafka}}}\n"
            + textwrap.dedent(yaml)
        )
        (folder / "pipeline.yaml").write_text(text)
        loaded = load([folder / "pipeline.yaml"], os.environ)
        assert loaded.pipeline is not None, loaded.findings
        self.pipeline: Pipeline = loaded.pipeline
        admin = ClusterAdmin(client_properties(self.pipeline.kafka, "admin", bootstrap))
        assert not any(admin.create(specs(self.pipeline)).values())
        tps = [TopicPartition(t.name, p) for t in specs(self.pipeline) for p in range(t.partitions)]
        until("every partition has a leader that answers", lambda: _answered(admin, tps))
        self._producer: Producer | None = None

    def name(self, topic: str) -> str:
        """The cluster's name of a topic."""
        return self.pipeline.topics[topic].kafka_name

    def send(
        self,
        topic: str,
        values: Iterable[Any],
        key: Callable[[Any], str | None] = lambda v: v["k"] if isinstance(v, dict) else None,
        headers: Headers = (),
    ) -> None:
        """Produce JSON values (bytes as they are) and wait for their acknowledgement."""
        raw = ((v if isinstance(v, bytes) or v is None else json.dumps(v).encode(), key(v)) for v in values)
        self.produce([Outgoing(self.name(topic), None if k is None else k.encode(), v, headers) for v, k in raw])

    def produce(self, outs: Iterable[Outgoing]) -> None:
        if self._producer is None:
            properties = client_properties(self.pipeline.kafka, "producer", self.bootstrap)
            self._producer = Producer(properties)
        failures: list[Any] = []
        for out in outs:
            self._producer.send(out, lambda failure, p, o: failures.append(failure) if failure else None)
        assert self._producer.flush(30) == 0
        assert not failures, failures

    def reconnect(self) -> None:
        """The next `produce` has a producer that sees the topics as they are now."""
        self._producer = None

    def read(self, topic: str) -> list[Record]:
        """Everything in the topic now, per partition in order."""
        return self.read_cluster(self.name(topic))

    def read_cluster(self, name: str) -> list[Record]:
        """The same of a topic by the cluster's name."""
        with Reader(client_properties(self.pipeline.kafka, "consumer", self.bootstrap)) as reader:
            tps = [TopicPartition(name, p) for p in range(reader.partitions(name))]
            return [r for batch in reader.read(reader.beginnings(tps), reader.ends(tps)) for r in batch]

    def values(self, topic: str) -> list[Any]:
        return [json.loads(r.value) for r in self.read(topic) if r.value is not None]

    def committed(self, handler: str, topic: str) -> dict[int, tuple[int, str]]:
        """The group's committed offsets and metadata, by partition."""
        from confluent_kafka import Consumer
        from confluent_kafka import TopicPartition as RdPartition

        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.pipeline.handlers[handler].group})
        try:
            declared = self.pipeline.topics[topic]
            tps = [RdPartition(declared.kafka_name, p) for p in range(declared.partitions)]
            return {t.partition: (t.offset, t.metadata or "") for t in consumer.committed(tps, timeout=10)}
        finally:
            consumer.close()

    @contextmanager
    def worker(self, handler: str, slot: int = 0, env: Mapping[str, str] = {}) -> Iterator[Worker]:
        started = Worker(self, handler, slot, env)
        try:
            yield started
        finally:
            started.kill()


def _answered(admin: ClusterAdmin, tps: Iterable[TopicPartition]) -> bool:
    try:
        return bool(admin.offsets(tps))
    except BrokerError:
        return False


@dataclass
class Worker:
    """One worker process with its pipes read to the end."""

    project: Project
    handler: str
    slot: int = 0
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config_read, config_write = os.pipe()
        status_read, status_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.worker.entry"],
            cwd=self.project.folder,
            env={
                **os.environ,
                **self.env,
                "KPIPE_CONFIG_FD": str(config_read),
                "KPIPE_STATUS_FD": str(status_write),
            },
            pass_fds=(config_read, status_write),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(config_read)
        os.close(status_write)
        document = {
            "pipeline": portable(with_schemas(self.project.pipeline)),
            "bootstrap": self.project.bootstrap,
            "handler": self.handler,
            "slot": self.slot,
        }
        with os.fdopen(config_write, "wb") as pipe:
            pipe.write(json.dumps(document).encode())
        self.said: list[dict[str, Any]] = []
        self.log = ""
        self._readers = [
            threading.Thread(target=self._read_status, args=(status_read,), daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_status(self, fd: int) -> None:
        with os.fdopen(fd) as pipe:
            for line in pipe:
                self.said.append(json.loads(line))

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line.decode("utf-8", "replace")

    @property
    def is_ready(self) -> bool:
        changes = [s["type"] for s in self.said if s["type"] in ("ready", "not-ready")]
        return bool(changes) and changes[-1] == "ready"

    def wait_ready(self, seconds: float = 30.0) -> Worker:
        until(f"{self.handler} ready: {self.log}", lambda: self.is_ready or self.process.poll() is not None, seconds)
        assert self.is_ready, self.log
        return self

    @property
    def accounting(self) -> dict[str, int]:
        statuses = [s["accounting"] for s in self.said if s["type"] == "status"]
        return statuses[-1] if statuses else {}

    def wait_settled(self, count: int, seconds: float = 30.0) -> dict[str, int]:
        """Until `count` events are settled and none is in flight."""

        def settled() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended with {self.process.returncode}: {self.log}")
            a = self.accounting
            return bool(a) and a["in_flight"] == 0 and a["in"] >= count

        try:
            until(f"{count} settled", settled, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}; {self.accounting}; log:\n{self.log[-3000:]}") from None
        return self.accounting

    def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        for reader in self._readers:
            reader.join(5)
