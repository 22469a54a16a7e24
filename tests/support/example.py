"""The example as it ships, in a folder of its own: its ports and its topics' names are free ones."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestrator.config.model import KafkaSettings
from orchestrator.kafka.producer import Producer
from orchestrator.kafka.properties import client_properties
from orchestrator.kafka.reader import Reader
from orchestrator.records import Outgoing, Record, TopicPartition
from tests.support.shell import KPIPE, Done, environment, kpipe
from tests.support.up import free_port
from tests.support.worker import until

ROOT = Path(__file__).resolve().parents[2]


class Example:
    """`pipeline.yaml`, `schemas/` and `handlers/` of the repository on the cluster at `bootstrap` ("" for its own)."""

    def __init__(self, folder: Path, bootstrap: str, **handlers: Mapping[str, Any]) -> None:
        """`handlers` changes options of handlers, by name with `_` for `-`."""
        self.folder = folder
        self.bootstrap = bootstrap
        self.namespace = f"e{secrets.token_hex(5)}"
        shutil.copy(ROOT / "pipeline.yaml", folder)
        for name in ("schemas", "handlers"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.orders, self.tracking = free_port(), free_port()
        options: dict[str, Any] = {name.replace("_", "-"): dict(said) for name, said in handlers.items()}
        options.setdefault("orders-api", {})["port"] = self.orders
        options.setdefault("tracking-api", {})["port"] = self.tracking
        (folder / "test.yaml").write_text(json.dumps({"handlers": options}))
        self.env = {"KAFKA_BOOTSTRAP": bootstrap, "KPIPE_ENV": self.namespace}

    def kpipe(self, *words: str, stdin: bytes = b"") -> Done:
        return kpipe(self.folder, *self._files, *words, env=self.env, stdin=stdin)

    _files = ("-f", "pipeline.yaml", "-f", "test.yaml")

    @contextlib.contextmanager
    def up(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """`kpipe up` until it is ready; SIGKILL at the end of the block unless it ended before."""
        log = self.folder / "up.log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            child = subprocess.Popen(
                [KPIPE, *self._files, "up", *words],
                cwd=self.folder,
                env=environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            until("up", lambda: b"next: " in log.read_bytes()[before:] or child.poll() is not None, 90)
            assert child.poll() is None, log.read_text()
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(10)

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def order(self, **values: Any) -> httpx.Response:
        body = {"userId": "user-123", "amount": 99.99, "items": ["laptop", "mouse"], **values}
        return httpx.post(f"http://127.0.0.1:{self.orders}/orders", json=body, timeout=15)

    def status(self, order_id: str) -> dict[str, Any]:
        answer = httpx.get(f"http://127.0.0.1:{self.tracking}/orders/{order_id}/status", timeout=15)
        return dict(answer.json()) if answer.status_code == 200 else {}

    def ps(self) -> dict[str, Any]:
        done = self.kpipe("ps", "--json")
        assert done.code == 0, done.err
        return {h["name"]: h for h in json.loads(done.out)["handlers"]}

    def pid(self, handler: str) -> list[int]:
        return [i["pid"] for i in self.ps()[handler]["instances"] if i["pid"]]

    def name(self, topic: str) -> str:
        return f"{self.namespace}.{topic}"

    def produce(self, outs: list[Outgoing]) -> None:
        producer = Producer(client_properties(KafkaSettings(), "producer", self.bootstrap))
        failures: list[Any] = []
        for out in outs:
            producer.send(out, lambda failure, p, o: failures.append(failure) if failure else None)
        assert producer.flush(60) == 0
        assert not failures, failures

    def read(self, topic: str) -> list[Record]:
        with Reader(client_properties(KafkaSettings(), "consumer", self.bootstrap)) as reader:
            name = self.name(topic)
            tps = [TopicPartition(name, p) for p in range(reader.partitions(name))]
            return [r for batch in reader.read(reader.beginnings(tps), reader.ends(tps)) for r in batch]

    def read_model(self, query: str) -> list[tuple[Any, ...]]:
        database = next((self.folder / ".kpipe").glob("*.db"))
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()


def kill_now(pid: int) -> None:
    """SIGKILL to one process that this test started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def left_of(pids: list[int], seconds: float) -> list[int]:
    """Which of the processes are still there after at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
        if not alive:
            return []
        time.sleep(0.05)
    return alive
