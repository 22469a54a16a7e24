"""How many requests a sync takes: counted by librdkafka itself, on a real cluster."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.admin.claims import ClaimsTopic
from orchestrator.kafka.properties import client_properties
from orchestrator.provisioning import apply
from orchestrator.provisioning.execute import carry_out
from orchestrator.provisioning.survey import survey
from tests.support.prefix import fresh_prefix
from tests.support.shell import eventually

pytestmark = pytest.mark.kafka

#: Writes of any kind, by the names of librdkafka's statistics.
WRITES = {
    "AlterConfigs", "CreatePartitions", "CreateTopics", "DeleteTopics", "IncrementalAlterConfigs", "Produce",
}  # fmt: skip


class Counted:
    """Connections whose requests are counted, by API."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._counts: dict[str, Counter[str]] = {}
        self._rounds = 0
        self.admin = ClusterAdmin(self._properties("admin"))
        self.claims = ClaimsTopic(self.admin, self._properties("consumer"), self._properties("producer"))

    def requests(self) -> Counter[str]:
        """So far, over all connections."""
        before = self._rounds
        eventually(lambda: self.admin._client.poll(0.05) is not None and self._rounds > before + 1)
        return sum(self._counts.values(), Counter())

    def _properties(self, kind: Any) -> dict[str, Any]:
        def take(text: str) -> None:
            brokers = json.loads(text)["brokers"].values()
            counts = (Counter({api: count for api, count in broker["req"].items() if count}) for broker in brokers)
            self._counts[kind] = sum(counts, Counter())
            self._rounds += kind == "admin"

        properties = client_properties(KafkaSettings(), kind, self._bootstrap)
        return {**properties, "stats_cb": take, "statistics.interval.ms": 20}


def of(count: int, prefix: str) -> Pipeline:
    configs = {"retention.ms": "604800000", "cleanup.policy": "delete"}
    topics = {f"t{i}": Topic(f"t{i}", f"{prefix}t{i}", 3, 1, configs) for i in range(count)}
    return Pipeline("scale", prefix[:-1], Path(), KafkaSettings(), topics, {}, {})


def second_sync(kafka: str, count: int, prefix: str) -> Counter[str]:
    """The requests of a sync that finds nothing to do."""
    first = Counted(kafka)
    seen = survey(of(count, prefix), first.admin, first.claims)
    assert carry_out(seen, first.admin, first.claims).unrecorded == ""
    second = Counted(kafka)
    seen = survey(of(count, prefix), second.admin, second.claims)
    assert seen.plan.is_empty
    carry_out(seen, second.admin, second.claims)
    return second.requests()


def test_an_unchanged_cluster_takes_the_same_requests_however_many_topics_and_no_write(kafka: str) -> None:
    admin = ClusterAdmin(client_properties(KafkaSettings(), "admin", kafka))
    with fresh_prefix(admin) as prefix:
        few = second_sync(kafka, 2, prefix + "few.")
        many = second_sync(kafka, 60, prefix + "many.")
    for requests in (few, many):
        assert requests["DescribeConfigs"] == 1
        assert not WRITES & requests.keys(), requests
    # By time, not by topics. ListOffsets: reading the claims asks for two, which are missing when the reader is closed
    # before librdkafka told its last statistics; more topics make no more of them.
    assert max(few["ListOffsets"], many["ListOffsets"]) <= 3
    bookkeeping = {"ApiVersion", "FindCoordinator", "Metadata", "Fetch", "ListOffsets"}
    assert {k: v for k, v in few.items() if k not in bookkeeping} == {
        k: v for k, v in many.items() if k not in bookkeeping
    }
    assert abs(few["Metadata"] - many["Metadata"]) <= 2


def test_creations_are_sent_in_chunks(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request holds at most so many records: 3 partitions, 2 configs and the topic make 6."""
    monkeypatch.setattr(apply, "RECORDS_PER_REQUEST", 30)
    monkeypatch.setattr(apply.chunks, "__defaults__", (30,))
    counted = Counted(kafka)
    with fresh_prefix(counted.admin) as prefix:
        seen = survey(of(20, prefix), counted.admin, counted.claims)
        assert apply.verify(seen.plan, counted.admin) == ()
        assert counted.requests()["CreateTopics"] == 4
        assert carry_out(seen, counted.admin, counted.claims).outcome.failed == ()
        assert counted.requests()["CreateTopics"] == 4 + 4 + 1  # the last is for the claims' own topic
