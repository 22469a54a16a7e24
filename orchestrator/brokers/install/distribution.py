"""Where Kafka's jars are: `KAFKA_HOME`, the per-user cache, or fetched once into that cache."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.brokers.install import cache, pins
from orchestrator.brokers.install.private_folders import refuse_foreign
from orchestrator.brokers.lock import locked
from orchestrator.brokers.model import Notify, Progress, quiet
from orchestrator.errors import BrokerError

#: Overrides where the release comes from; it then comes from nowhere else, Maven included.
RELEASE_URL = "KPIPE_KAFKA_RELEASE_URL"
_OLDEST = 4
_NEEDED = (f"kafka_{pins.SCALA}", "kafka-clients", "kafka-server", "log4j-core", pins.SLF4J_BINDING)

WAYS_OUT = (
    "three ways out: (1) install Maven or allow the download from dlcdn.apache.org, then `kpipe broker fetch`; "
    "(2) set KAFKA_HOME to an unpacked Kafka 4 release; "
    "(3) set KAFKA_BOOTSTRAP to a Kafka that runs already, or use `--kafka docker`"
)


@dataclass(frozen=True, slots=True)
class Kafka:
    """The folder with the jars, their version, and where they were found.

    `jars` are those that were checked when they were fetched; none for `KAFKA_HOME`, whose jars are the user's own.
    """

    libs: Path
    version: str
    source: Literal["KAFKA_HOME", "cache"]
    jars: tuple[str, ...] = ()


def find_kafka(environ: Mapping[str, str]) -> Kafka | None:
    """What is there without fetching.

    Raises `BrokerError` when `KAFKA_HOME` names no Kafka 4, or when the cache is somebody else's.
    """
    if environ.get("KAFKA_HOME"):
        return _in_home(Path(environ["KAFKA_HOME"]).expanduser())
    cached = cache.folder(cache.cache_root(environ))
    for folder in (cached.parent, cached):
        refuse_foreign(folder)
    jars = cache.jars(cached)
    return Kafka(cached / "libs", pins.VERSION, "cache", jars) if jars else None


def provide_kafka(environ: Mapping[str, str], notify: Notify = quiet, *, sha512: str = pins.SHA512) -> Kafka:
    """The same, fetched if need be. Two callers at once fetch once: the second waits for the first."""
    if environ.get("KAFKA_HOME"):
        return _in_home(Path(environ["KAFKA_HOME"]).expanduser())
    root = cache.cache_root(environ)
    try:
        cache.confine(environ)
        found = find_kafka(environ)
        if found:
            return found
        with locked(cache.lock_file(root), lambda: notify(Progress("Another kpipe is fetching Kafka: waiting"))):
            cache.clean(root)
            if not find_kafka(environ):
                cache.check_again(cache.folder(root))
            return find_kafka(environ) or _fetch(root, environ, notify, sha512)
    except OSError as problem:
        raise BrokerError(_disk_problem(root, problem), WAYS_OUT) from problem


def _in_home(home: Path) -> Kafka:
    names = [jar.name for jar in (home / "libs").glob("kafka_*.jar")]
    versions = [found[1] for name in names if (found := re.fullmatch(r"kafka_[\d.]+-(\d[\w.]*)\.jar", name))]
    if not versions:
        raise BrokerError(
            f"KAFKA_HOME={home} is no Kafka release: there is no libs/kafka_{pins.SCALA}-….jar in it",
            "set it to the unpacked folder of a release, or unset it",
        )
    if int(versions[0].split(".")[0]) < _OLDEST:
        raise BrokerError(
            f"KAFKA_HOME={home} is Kafka {versions[0]}; kpipe needs {_OLDEST}.0 or later",
            "set it to a newer release, or unset it",
        )
    return Kafka(home / "libs", versions[0], "KAFKA_HOME")


def _fetch(root: Path, environ: Mapping[str, str], notify: Notify, sha512: str) -> Kafka:
    with cache.aside(root) as made:
        try:
            source = _fill(made, environ, notify, sha512)
        except BrokerError as problem:
            raise BrokerError(problem.message, WAYS_OUT) from problem
        _check(made / "libs")
        cache.publish(made, root, source)
    notify(Progress(f"Kafka {pins.VERSION} is in {cache.folder(root)}"))
    return Kafka(cache.folder(root) / "libs", pins.VERSION, "cache", cache.jars(cache.folder(root)))


def _fill(made: Path, environ: Mapping[str, str], notify: Notify, sha512: str) -> str:
    """Put the jars into `made/libs`; returns where they came from."""
    # Imported here: the network libraries cost more than most commands take, and fetching happens once.
    from orchestrator.brokers.install.download import fetch_release
    from orchestrator.brokers.install.maven import fetch_by_maven, find_maven

    own = environ.get(RELEASE_URL)
    maven = None if own else find_maven(environ)
    if maven is None:
        notify(Progress(f"Fetching Kafka {pins.VERSION}"))
        fetch_release([own] if own else pins.RELEASE_URLS, sha512, made, notify)
        return "release"
    notify(Progress(f"Fetching Kafka {pins.VERSION} by Maven"))
    try:
        fetch_by_maven(maven, made, environ, notify)
        return "maven"
    except BrokerError as by_maven:
        notify(Progress(f"{by_maven.message}; trying the official release"))
        cache.empty(made)
        try:
            fetch_release(pins.RELEASE_URLS, sha512, made, notify)
        except BrokerError as by_release:
            raise BrokerError(f"{by_maven.message}. {by_release.message}") from by_release
        return "release"


def _check(libs: Path) -> None:
    """Every needed jar is there and every jar is a whole zip file."""
    jars = sorted(libs.glob("*.jar"))
    missing = [name for name in _NEEDED if not any(jar.name.startswith(f"{name}-") for jar in jars)]
    if missing:
        raise BrokerError(f"what was fetched is no whole Kafka: {', '.join(missing)} is missing", WAYS_OUT)
    for jar in jars:
        try:
            with zipfile.ZipFile(jar) as opened:
                broken = opened.testzip()
        except zipfile.BadZipFile as problem:
            raise BrokerError(f"{jar.name} came in broken: {problem}", WAYS_OUT) from problem
        if broken:
            raise BrokerError(f"{jar.name} came in broken: {broken} in it does not match its checksum", WAYS_OUT)


def _disk_problem(root: Path, problem: OSError) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left for Kafka in {root} (about 300 MB while fetching); KPIPE_CACHE moves it"
    if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Kafka's cache {root} cannot be written; KPIPE_CACHE moves it"
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    return f"Kafka could not be put into {root}: {reason}"
