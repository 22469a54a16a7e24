from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.brokers import LaunchSpec, PortTaken
from orchestrator.brokers.diagnose import explain

# As Kafka 4.3.1 and Java 17 print them.
BIND = """\
2026-01-01 10:08:49,996 ERROR Unable to start acceptor for CONTROLLER (kafka.network.DataPlaneAcceptor)
org.apache.kafka.common.KafkaException: Socket server failed to bind to 127.0.0.1:29393: Address already in use.
Caused by: java.net.BindException: Address already in use
"""
LOCK = """\
2026-01-01 09:58:19,868 ERROR Exiting Kafka due to fatal exception during startup. (kafka.Kafka$)
org.apache.kafka.common.KafkaException: Failed to acquire lock on file .lock in /x/data. A Kafka instance in another process or thread is using this directory.
"""  # noqa: E501
FULL = """\
2026-01-01 10:00:00,000 ERROR Error while loading log dir /x/data (org.apache.kafka.storage.internals.log.LogManager)
java.io.IOException: No space left on device
"""
CORRUPT = """\
2026-01-01 10:00:00,000 ERROR Encountered fatal fault: Unexpected error in raft IO thread (x.FaultHandler)
org.apache.kafka.common.errors.CorruptRecordException: Record is corrupt (stored crc = 1, computed crc = 2)
"""
OLD_JAVA = """\
Error: LinkageError occurred while loading main class kafka.Kafka
\tjava.lang.UnsupportedClassVersionError: kafka/Kafka has been compiled by a more recent version of the Java Runtime
"""
OTHER = """\
2026-01-01 10:00:00,000 INFO starting (kafka.server.KafkaRaftServer)
2026-01-01 10:00:01,000 ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)
java.lang.RuntimeException: No readable meta.properties files found.
"""


def spec(folder: Path, log: str, start: int = 0) -> LaunchSpec:
    (folder / "broker.log").write_text(log)
    return LaunchSpec((), {}, folder, "127.0.0.1:20001", folder / "broker.log", start, "4.3.1", "id")


@pytest.mark.parametrize(
    ("log", "output", "reason"),
    [
        (LOCK, "", "another process uses its data folder"),
        (FULL, "", "the disk is full"),
        (CORRUPT, "", "its data folder is damaged"),
        ("", OLD_JAVA, "this Java is too old"),
        ("", "Error occurred during initialization of VM\nToo small maximum heap\n", "heap is too small"),
        (
            "",
            "Error occurred during initialization of VM\nInitial heap size set to a larger value",
            "heap is too small",
        ),
        ("", "Terminating due to java.lang.OutOfMemoryError: Java heap space\n", "heap is too small"),
        ("", "Could not reserve enough space for 104857600KB object heap\n", "heap is too small"),
        (
            "",
            "Invalid maximum heap size: -Xmxfoo\nError: Could not create the Java Virtual Machine.",
            "heap is too small",
        ),
    ],
)
def test_known_reasons(tmp_path: Path, log: str, output: str, reason: str) -> None:
    problem = explain(spec(tmp_path, log), output)
    assert reason in problem.message
    assert str(tmp_path / "broker.log") in problem.hint


def test_a_taken_port_is_its_own_kind_since_another_try_helps(tmp_path: Path) -> None:
    problem = explain(spec(tmp_path, BIND))
    assert isinstance(problem, PortTaken)
    assert "port" in problem.message and "127.0.0.1:20001" in problem.message


def test_an_unknown_reason_is_quoted(tmp_path: Path) -> None:
    assert explain(spec(tmp_path, OTHER)).message.endswith(": No readable meta.properties files found.")
    assert explain(spec(tmp_path, OTHER[: OTHER.index("java.lang")])).message.endswith(
        ": Exiting Kafka due to fatal exception"
    )
    assert explain(spec(tmp_path, ""), "Error: no such thing").message.endswith(": Error: no such thing")


def test_without_a_word(tmp_path: Path) -> None:
    missing = spec(tmp_path, "")
    (tmp_path / "broker.log").unlink()
    assert "ended without a word" in explain(missing).message


def test_what_an_earlier_run_logged_does_not_count(tmp_path: Path) -> None:
    assert "No readable" not in explain(spec(tmp_path, BIND, start=len(BIND))).message
    assert not isinstance(explain(spec(tmp_path, BIND, start=len(BIND))), PortTaken)


def test_a_log_that_was_rolled_over_since_counts_as_a_whole(tmp_path: Path) -> None:
    assert isinstance(explain(spec(tmp_path, BIND, start=10_000_000)), PortTaken)


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    assert len(explain(spec(tmp_path, ""), "Error: " + "x" * 5000).message) < 400
