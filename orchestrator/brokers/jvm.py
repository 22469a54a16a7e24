"""How Kafka's JVM is started: small, quick to start, and recognizable in a list of processes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.brokers.install.distribution import Kafka
from orchestrator.brokers.install.java import Java
from orchestrator.brokers.process import mark
from orchestrator.brokers.settings import LOGS
from orchestrator.environment import small
from orchestrator.errors import BrokerError

#: Kafka's own variable for the heap; its scripts default to 1 GB.
HEAP_OPTIONS = "KAFKA_HEAP_OPTS"
# What lives on the heap is some 50 MB under a load of 50,000 records/s, and it runs with 128 MB; the rest is
# for large records in flight, and taken from the system only when needed.
_HEAP = ("-Xms64m", "-Xmx512m")

# The client compiler and the serial collector: half the processor time until Kafka answers, and the smallest
# footprint. Measured with Kafka 4.3.1 on Java 17: 2.9 s against 3.8 s. 96 MB for classes to start with: else
# the collector runs twice in full before Kafka is up.
_TUNING = (
    "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:MetaspaceSize=96m", "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError", f"-XX:ErrorFile={LOGS}/broker-crash.log", "-Djava.awt.headless=true",
)  # fmt: skip
#: By these a user tells every Java on the machine how to run.
_JAVA = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_LOGGING = "-Dlog4j2.configurationFile=log4j2.properties"


def broker_argv(java: Java, kafka: Kafka, home: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Kafka's server; to be run in `home`, where its configuration is."""
    heap = shlex.split(environ.get(HEAP_OPTIONS, "")) or _HEAP
    return (
        str(java.path), *heap, *_TUNING, *_newer(java.major), mark(home), _LOGGING,
        "-cp", class_path(kafka), "kafka.Kafka", "server.properties",
    )  # fmt: skip


def format_argv(java: Path, kafka: Kafka, cluster_id: str, properties: str) -> tuple[str, ...]:
    """Kafka's tool that makes an empty data folder into a node's."""
    return (
        str(java), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", _LOGGING,
        "-cp", class_path(kafka), "kafka.tools.StorageTool",
        "format", "-t", cluster_id, "-c", properties,
    )  # fmt: skip


def class_path(kafka: Kafka) -> str:
    """The jars that were checked, by name: one that somebody adds to the folder is not loaded.

    All of the folder for a `KAFKA_HOME`, which may have plug-ins in it. Raises `BrokerError`.
    """
    if os.pathsep in str(kafka.libs):
        raise BrokerError(
            f"Kafka is in {kafka.libs}: Java can't use a path with '{os.pathsep}' in it",
            "move it with KPIPE_CACHE (or KAFKA_HOME)",
        )
    return os.pathsep.join(f"{kafka.libs}/{name}" for name in kafka.jars or "*")


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What Java needs of the caller's environment, in a locale whose file names may have any letter.

    Java takes the encoding of paths from the locale: with LC_ALL=C it can't open a folder named "büro".
    """
    kept = small(environ, _JAVA)
    return kept if sys.platform == "darwin" else {**kept, "LC_ALL": "C.UTF-8"}


def _newer(major: int) -> tuple[str, ...]:
    """Consent to what Kafka and its compression libraries do, which later Javas warn of (JEP 472, JEP 498)."""
    native = ("--enable-native-access=ALL-UNNAMED",) if major >= 22 else ()
    return native + (("--sun-misc-unsafe-memory-access=allow",) if major >= 23 else ())
