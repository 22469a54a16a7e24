from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from orchestrator.brokers.install import pins
from orchestrator.brokers.ports import Ports
from orchestrator.brokers.settings import SHARED, log4j2_properties, server_properties

ROOT = Path(__file__).parents[3]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


def kafka_settings(environment: dict[str, str]) -> dict[str, str]:
    """What the image makes of its environment: KAFKA_NODE_ID is node.id."""
    own = {"KAFKA_HEAP_OPTS"}
    names = (name for name in environment if name.startswith("KAFKA_") and name not in own)
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): environment[name] for name in names}


def local_settings() -> dict[str, str]:
    lines = server_properties(Ports(20001, 20002)).splitlines()
    return dict(line.split("=", 1) for line in lines)


#: Where the two differ because one is behind a port mapping.
PLACE = {"listeners", "advertised.listeners", "listener.security.protocol.map", "controller.quorum.voters",
         "log.dirs", "inter.broker.listener.name"}  # fmt: skip


def test_compose_has_the_settings_of_the_local_broker() -> None:
    docker, local = kafka_settings(compose()["services"]["kafka"]["environment"]), local_settings()
    assert {name: docker[name] for name in docker.keys() - PLACE} == {
        name: local[name] for name in local.keys() - PLACE
    }
    assert dict(SHARED).items() <= docker.items()


def test_compose_runs_the_version_that_is_fetched() -> None:
    assert compose()["services"]["kafka"]["image"] == f"apache/kafka:{pins.VERSION}"


def test_compose_publishes_on_loopback_only_and_keeps_its_data_in_a_volume() -> None:
    kafka = compose()["services"]["kafka"]
    assert kafka["ports"] == ["127.0.0.1:${KPIPE_KAFKA_PORT:-9092}:9092"]
    assert "HOST://127.0.0.1:${KPIPE_KAFKA_PORT:-9092}" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert kafka["volumes"] == [f"kafka-data:{kafka['environment']['KAFKA_LOG_DIRS']}"]
    assert "kafka-data" in compose()["volumes"]
    assert kafka["healthcheck"]["test"][0] == "CMD"


def test_the_file_for_readers_is_the_one_that_is_installed() -> None:
    installed = ROOT / "orchestrator" / "brokers" / "compose.yaml"
    assert (ROOT / "compose.yaml").read_bytes() == installed.read_bytes()


def test_the_local_broker_listens_on_loopback_only() -> None:
    settings = local_settings()
    hosts = re.findall(r"//([^:]+):", settings["listeners"] + "," + settings["advertised.listeners"])
    assert hosts == ["127.0.0.1"] * 3
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:20002"


def test_nothing_in_the_configuration_depends_on_the_folder() -> None:
    assert local_settings()["log.dirs"] == "data"
    assert str(ROOT) not in server_properties(Ports(1, 2)) + log4j2_properties()


def test_everything_replicated_once() -> None:
    settings = local_settings()
    for name in ("offsets.topic.replication.factor", "transaction.state.log.replication.factor",
                 "transaction.state.log.min.isr", "share.coordinator.state.topic.replication.factor",
                 "share.coordinator.state.topic.min.isr"):  # fmt: skip
        assert settings[name] == "1"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["group.initial.rebalance.delay.ms"] == "0"


def test_the_log_is_bounded() -> None:
    text = log4j2_properties()
    assert "SizeBasedTriggeringPolicy" in text and "strategy.max = 2" in text and "ConsoleAppender" not in text
