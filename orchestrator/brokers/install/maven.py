"""Kafka by Maven: its jars with all dependencies, from wherever the user's settings.xml says.

Maven runs in a folder of kpipe's cache, which nobody else can write in, with a `.mvn` of its own: Maven takes
extensions and options of the JVM from the first `.mvn` that it finds above its folder.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from orchestrator.brokers.install import pins
from orchestrator.brokers.install.cache import checksum
from orchestrator.brokers.model import Notify, Progress
from orchestrator.environment import PROXIES, small
from orchestrator.errors import BrokerError
from orchestrator.programs import find_program, search_path

#: A jar that comes in: Maven's own line, on its log.
_DOWNLOADED = re.compile(r"Downloaded from \S+: \S*/(\S+\.jar)")
_LINES_KEPT = 40

#: The user's own options for Maven and its JVM: proxies, certificates, another settings.xml. Variables that move
#: Maven's folder (MAVEN_BASEDIR) or change its command line (MAVEN_CONFIG, MAVEN_DEBUG_OPTS) are not among them.
_OPTIONS = (
    "MAVEN_OPTS", "MAVEN_ARGS", "MAVEN_SKIP_RC", "JAVACMD", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS", *PROXIES,
)  # fmt: skip
#: `${env.NAME}`, and a profile that a variable activates.
_VARIABLE = re.compile(r"\benv\.(\w+)")
_SETTINGS_OPTIONS = ("-s", "--settings", "-gs", "--global-settings")

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
    return find_program("mvn", environ)


def fetch_by_maven(maven: Path, made: Path, environ: Mapping[str, str], notify: Notify) -> None:
    """Copy the jars into `made/libs`.

    Raises `BrokerError` with Maven's own reason, or when a jar is not the pinned one.
    """
    scratch, libs = made / "maven", made / "libs"
    (scratch / ".mvn").mkdir(parents=True)
    pom = scratch / "pom.xml"
    pom.write_text(_POM, "utf-8")
    argv = [
        str(maven), "--batch-mode", "--strict-checksums", "--file", str(pom),
        f"{pins.MAVEN_PLUGIN}:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime",
    ]  # fmt: skip
    code, tail = _run(argv, scratch, environment(maven, environ), notify)
    shutil.rmtree(scratch)
    if code != 0:
        raise BrokerError(f"Maven could not bring Kafka {pins.VERSION} (exit {code}): {_reason(tail)}")
    _check(libs)


def environment(maven: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What Maven gets of the user's environment: the small one, its own options, and what its settings refer to."""
    named = (name for file in _settings(maven, environ) for name in _VARIABLE.findall(_text(file)))
    return small(environ, (*_OPTIONS, *named)) | {"PATH": search_path(environ)}


def _settings(maven: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """The files that Maven takes its settings from. Java's home folder is that of the password file, not HOME."""
    yield Path(environ.get("HOME", "/"), ".m2", "settings.xml")
    with contextlib.suppress(KeyError):  # a container may run under a number without a name
        yield Path(pwd.getpwuid(os.getuid()).pw_dir, ".m2", "settings.xml")
    yield maven.resolve().parent.parent / "conf" / "settings.xml"
    words = environ.get("MAVEN_ARGS", "").split()
    yield from (Path(file) for option, file in pairwise(words) if option in _SETTINGS_OPTIONS)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace") if file.is_file() else ""
    except OSError:
        return ""


def _check(libs: Path) -> None:
    """Raise `BrokerError` unless there are the pinned jars and nothing else."""
    pinned = pins.jars()
    brought = {jar.name: checksum(jar) for jar in libs.iterdir()} if libs.is_dir() else {}
    for name in sorted(pinned.keys() | brought.keys()):
        if name not in brought:
            raise BrokerError(f"Maven brought no whole Kafka: {name} is missing")
        if name not in pinned:
            raise BrokerError(f"Maven brought {name}, which is no part of Kafka {pins.VERSION}")
        if brought[name] != pinned[name]:
            raise BrokerError(
                f"Maven brought {name} with the wrong checksum: "
                f"SHA-256 {brought[name][:16]}… instead of {pinned[name][:16]}…"
            )


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
