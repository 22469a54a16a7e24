"""`send` and `tail` with a broker of the pipeline's own: found by its record, lost, and back again."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.config.model import KafkaSettings
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from orchestrator.records import TopicSpec
from tests.support.broker import kafka_in
from tests.support.shell import eventually, kpipe, running

pytestmark = pytest.mark.kafka

PIPELINE = "kpipe: 1\npipeline: shop\ntopics:\n  notes: {dlq: notes.dlq}\n"


def test_following_survives_a_restart_of_the_broker(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    with ExitStack() as stack:
        with kafka_in(tmp_path / ".kpipe") as address:
            create(address, "notes")
            assert kpipe(tmp_path, "send", "notes", "1").code == 0
            follower = stack.enter_context(running(tmp_path, "tail", "notes", "-f", "--json"))
            assert json.loads(follower.line())["value"] == 1
        assert follower.child.stderr is not None
        assert "Kafka is away" in follower.child.stderr.readline().decode()
        away = kpipe(tmp_path, "send", "notes", "2", timeout=20)
        assert (away.code, away.out) == (4, "")
        with kafka_in(tmp_path / ".kpipe") as again:
            assert again == address
            assert kpipe(tmp_path, "send", "notes", "3").code == 0
            assert json.loads(follower.line(30))["value"] == 3
            assert follower.interrupt() == 130


def create(address: str, topic: str) -> None:
    admin = ClusterAdmin(client_properties(KafkaSettings(), "admin", address))
    assert admin.create([TopicSpec(topic, 1, 1)]) == {topic: None}
    eventually(lambda: topic in admin.topic_names())
