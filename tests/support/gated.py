"""The publish endpoint's process, as `kpipe up` starts it, in front of a Kafka that is not there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config import load, portable
from tests.support.sockets import get, raw
from tests.support.worker import until

YAML = """
kpipe: 1
pipeline: test
kafka: {bootstrap: "127.0.0.1:1"}
topics:
  orders: {key: id, dlq: none, configs: {max.message.bytes: 100KB}}
handlers:
  api: {service: node api.js, produces: [orders]}
"""
TOKEN = b"Authorization: Bearer t-api\r\n"


@dataclass
class Gated:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()


@contextlib.contextmanager
def gated(folder: Path, before: Sequence[str] = (), hosts: Sequence[str] = ()) -> Iterator[Gated]:
    """`before` are words in front of its command line."""
    (folder / "pipeline.yaml").write_text(YAML)
    pipeline = load([folder / "pipeline.yaml"], os.environ).pipeline
    assert pipeline is not None
    config = {"pipeline": portable(pipeline), "bootstrap": "127.0.0.1:1", "tokens": {"t-api": "api"}}
    read, write = os.pipe()
    os.write(write, json.dumps({**config, "hosts": list(hosts)}).encode())
    os.close(write)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening, (folder / "gate.log").open("wb") as log:
        environ = {"KPIPE_CONFIG_FD": str(read), "KPIPE_LISTEN_FD": str(listening.fileno())}
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "orchestrator.publish.gateway"],
            cwd=folder, env={**os.environ, **environ}, pass_fds=(read, listening.fileno()), stderr=log,
        )  # fmt: skip
        port = int(listening.getsockname()[1])
    os.close(read)
    try:
        gate = Gated(port, process, folder / "gate.log")
        until("it answers", lambda: process.poll() is not None or b" 200 " in raw(port, get("/")))
        yield gate
    finally:
        process.kill()
        process.wait(10)
