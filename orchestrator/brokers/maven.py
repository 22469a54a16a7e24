"""Kafka by Maven: its jars with all dependencies, from wherever the user's settings.xml says."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from orchestrator.brokers import pins
from orchestrator.brokers.model import Notify, Progress
from orchestrator.errors import BrokerError

#: A jar that comes in: Maven's own line, on its log.
_DOWNLOADED = re.compile(r"Downloaded from \S+: \S*/(\S+\.jar)")
_LINES_KEPT = 40

_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kpipe</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_{pins.SCALA}</artifactId>
      <version>{pins.VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>{pins.LOG4J}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>{pins.SLF4J_BINDING}</artifactId>
      <version>{pins.LOG4J}</version>
    </dependency>
  </dependencies>
</project>
"""


def find_maven(environ: Mapping[str, str]) -> Path | None:
    found = shutil.which("mvn", path=environ.get("PATH", ""))
    return Path(found) if found else None


def fetch_by_maven(maven: Path, libs: Path, environ: Mapping[str, str], notify: Notify) -> None:
    """Copy the jars into `libs`. Raises `BrokerError` with Maven's own reason."""
    with tempfile.TemporaryDirectory(prefix="kpipe-maven-") as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(_POM, "utf-8")
        argv = [
            str(maven), "--batch-mode", "--strict-checksums", "--file", str(pom),
            "dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime",
        ]  # fmt: skip
        code, tail = _run(argv, Path(scratch), environ, notify)
    if code != 0:
        raise BrokerError(f"Maven could not bring Kafka {pins.VERSION} (exit {code}): {_reason(tail)}")


def _run(argv: list[str], cwd: Path, environ: Mapping[str, str], notify: Notify) -> tuple[int, list[str]]:
    """Maven's exit code and its last lines; it does not outlive this call, however that ends."""
    tail: list[str] = []
    process = subprocess.Popen(
        argv, cwd=cwd, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    try:
        assert process.stdout is not None  # PIPE above
        for line in process.stdout:
            tail = [*tail[-_LINES_KEPT:], line.rstrip()]
            jar = _DOWNLOADED.search(line)
            if jar:
                notify(Progress(f"Fetching Kafka {pins.VERSION} by Maven: {jar[1]}"))
        return process.wait(), tail
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _reason(tail: list[str]) -> str:
    """The first error that Maven names; the lines after it only say where to read more."""
    errors = [line.removeprefix("[ERROR]").strip() for line in tail if line.startswith("[ERROR]")]
    lines = [line for line in errors or tail if line]
    return lines[0] if lines else "it said nothing"
