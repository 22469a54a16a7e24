from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.brokers.install.distribution import Kafka
from orchestrator.brokers.install.java import Java
from orchestrator.brokers.jvm import broker_argv, child_environment
from orchestrator.brokers.process import mark
from orchestrator.errors import BrokerError

KAFKA = Kafka(Path("/cache/kafka/libs"), "4.3.1", "cache")
HOME = Path("/home/ann/shop/.kpipe/broker")


def argv(major: int = 17, **environ: str) -> tuple[str, ...]:
    return broker_argv(Java(Path("/jdk/bin/java"), major, "PATH"), KAFKA, HOME, environ)


def test_it_can_be_told_from_other_processes() -> None:
    assert argv()[0] == "/jdk/bin/java" and mark(HOME) in argv()
    assert argv()[-4:] == ("-cp", "/cache/kafka/libs/*", "kafka.Kafka", "server.properties")


def test_the_heap_is_small_unless_told_otherwise() -> None:
    assert "-Xmx512m" in argv()
    larger = argv(KAFKA_HEAP_OPTS="-Xms1g -Xmx1g")
    assert "-Xmx1g" in larger and "-Xms1g" in larger and "-Xmx512m" not in larger


def test_later_javas_are_asked_not_to_warn_and_earlier_ones_would_not_know_the_words() -> None:
    assert not any("native-access" in word or "unsafe" in word for word in argv(17) + argv(21))
    assert "--enable-native-access=ALL-UNNAMED" in argv(22)
    assert "--sun-misc-unsafe-memory-access=allow" in argv(25)


def test_a_class_path_cannot_hold_a_colon() -> None:
    odd = Kafka(Path("/a:b/libs"), "4.3.1", "cache")
    with pytest.raises(BrokerError, match="Java can't use a path with ':' in it") as caught:
        broker_argv(Java(Path("java"), 17, "PATH"), odd, HOME, {})
    assert "KPIPE_CACHE" in caught.value.hint


def test_a_locale_that_has_every_letter() -> None:
    assert child_environment({"LC_ALL": "C", "TZ": "UTC"})["TZ"] == "UTC"
    assert child_environment({"LC_ALL": "C"}).get("LC_ALL") in ("C.UTF-8", "C")


def test_kafkas_java_gets_no_secrets_of_the_users() -> None:
    user = {"PATH": "/bin", "JAVA_TOOL_OPTIONS": "-Xss1m", "DATABASE_URL": "postgres://u:pw@db", "GITHUB_TOKEN": "t"}
    assert child_environment(user).keys() - {"LC_ALL"} == {"PATH", "JAVA_TOOL_OPTIONS"}
