"""kpipe's own local broker for tests, run so that it cannot outlive the test run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.brokers import LaunchSpec, LocalBroker
from orchestrator.kafka.ping import ping

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0


@contextmanager
def kafka_in(state_dir: Path, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """Apache Kafka with its state in `state_dir`; its address. Raises `BrokerError` when it can't be had."""
    broker = LocalBroker(state_dir, ping, environ=environ)
    spec = broker.prepare()
    with tied(spec, state_dir / "printed") as child:
        broker.record(spec, child.pid, "up")
        broker.wait_ready(spec, START_SECONDS, lambda: child.poll() is None, (state_dir / "printed").read_text)
        yield spec.address
    broker.forget()


@contextmanager
def tied(spec: LaunchSpec, printed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `spec` as the supervisor does: its end is bound to ours."""
    argv = [sys.executable, str(ROOT / "tests" / "support" / "tied.py"), *spec.argv]
    with printed.open("wb") as out:
        child = subprocess.Popen(
            argv,
            cwd=spec.cwd,
            env=dict(spec.env),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            umask=spec.umask,
        )
    try:
        yield child
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(60)
