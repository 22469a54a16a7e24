"""The pipeline that chaos is made of: one handler under a real `kpipe up`, and a load in a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.support.shell import KPIPE, Done, environment, kpipe
from tests.support.worker import until

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 6
HANDLER = """
    import os, time
    from orchestrator import Emit, Reject, Retry

    def work(event):
        kind = event.value["kind"]
        if kind == "reject":
            raise Reject("one of those")
        if kind == "flaky" and event.attempt == 1:
            raise Retry("the first time it always fails", after=0.2)
        place = {"partition": event.partition, "offset": event.offset}
        return Emit("out", {**place, "at": time.time(), "pid": os.getpid()}, event.key)
"""


@dataclass
class Scene:
    """A folder with the pipeline, on a cluster."""

    folder: Path
    bootstrap: str
    replication: int = 1
    guarantee: str = "at-least-once"
    #: More of the handler's options, and of `kafka:`, as in the file.
    options: str = ""
    kafka: str = ""
    #: The module with the function `work`.
    code: str = HANDLER

    def __post_init__(self) -> None:
        self.namespace = f"c{secrets.token_hex(4)}"
        in_sync = max(1, self.replication - 1)
        exactly = f", guarantee: {self.guarantee}" if self.guarantee != "at-least-once" else ""
        defaults = f"replication: {self.replication}, configs: {{min.insync.replicas: {in_sync}}}"
        (self.folder / "scene.py").write_text(textwrap.dedent(self.code))
        (self.folder / "pipeline.yaml").write_text(
            f"kpipe: 1\npipeline: chaos\nnamespace: {self.namespace}\n"
            f"kafka: {{bootstrap: '{self.bootstrap}'{self.kafka}}}\n"
            f"topics:\n"
            f"  in: {{partitions: {PARTITIONS}, dlq: in.dlq, {defaults}}}\n"
            f"  out: {{partitions: {PARTITIONS}, {defaults}}}\n"
            f"  in.dlq: {{{defaults}}}\n  work.dlq: {{{defaults}}}\n"
            f"handlers:\n"
            f"  work: {{python: 'scene:work', consumes: [in], produces: [out], dlq: work.dlq{exactly}{self.options}}}\n"
        )

    @property
    def topics(self) -> dict[str, str]:
        return {name: f"{self.namespace}.{name}" for name in ("in", "out", "in.dlq", "work.dlq")}

    @property
    def group(self) -> str:
        return f"{self.namespace}.chaos.work"

    def kpipe(self, *words: str, timeout: float = 150) -> Done:
        return kpipe(self.folder, *words, timeout=timeout)

    @contextmanager
    def up(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """`kpipe up`, from ready on; killed at the end of the block unless it ended before."""
        log = self.folder / "up.log"
        with log.open("ab") as out:
            child = subprocess.Popen(
                [KPIPE, "up", *words], cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            until(f"up: {log}", lambda: b"next: " in log.read_bytes() or child.poll() is not None, 90)
            assert child.poll() is None, self.log
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(10)

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def work(self) -> dict[str, Any]:
        """The handler as `kpipe ps` tells."""
        done = self.kpipe("ps", "--json", "-a")
        if done.code != 0:
            return {}
        return next((h for h in json.loads(done.out)["handlers"] if h["name"] == "work"), {})

    @contextmanager
    def load(self, rate: float, seed: int, *, only_good: bool = False) -> Iterator[Loading]:
        argv = [sys.executable, "-m", "tests.chaos.load", "--bootstrap", self.bootstrap, "--topic", self.topics["in"]]
        argv += ["--rate", str(rate), "--seed", str(seed)]
        argv += ["--only-good"] if only_good else []
        child = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "sending\n"
            yield Loading(child)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(10)

    def wait_drained(self, seconds: float) -> float:
        """Until the group has committed the end of every partition; how long that took.

        Fails when for so many `seconds` nothing more is committed.
        """
        began = moved = time.monotonic()
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.group, "log_level": 0})
        parts = [TopicPartition(self.topics["in"], p) for p in range(PARTITIONS)]
        most: list[int] = []
        ends: list[int] = []
        try:
            while True:
                with suppress(KafkaException):
                    ends = [consumer.get_watermark_offsets(p, timeout=5)[1] for p in parts]
                    at = [p.offset for p in consumer.committed(parts, timeout=5)]
                    if at == ends:
                        return time.monotonic() - began
                    if sum(at) > sum(most):
                        most, moved = at, time.monotonic()
                if time.monotonic() > moved + seconds:
                    raise AssertionError(f"stands still: {most} of {ends} committed")
                time.sleep(0.1)
        finally:
            consumer.close()


class Loading:
    """The load while it runs."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def stop(self, seconds: float = 90) -> dict[str, Any]:
        """No further event; all acknowledged. What it sent."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        out, _ = self._child.communicate(timeout=seconds)
        said: dict[str, Any] = json.loads(out)
        assert said["failed"] == said["left"] == 0, said
        return said


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
