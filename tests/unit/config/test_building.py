"""A valid document as a `Pipeline`: defaults, derived DLQs, names, and the tree that builds it again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import build
from orchestrator.config.model import (
    DedupPolicy,
    EventTemplate,
    Handler,
    KafkaSettings,
    Pipeline,
    ReadyCheck,
    RetryPolicy,
    Topic,
)
from orchestrator.errors import FindingsError
from tests.support.config import VALID, document, loaded

BASE = Path("/base")
WEEK, MONTH = "604800000", "2592000000"


def topics(**sections: Any) -> dict[str, Topic]:
    return dict(build(document(**sections), BASE).topics)


def handler(options: dict[str, Any], **sections: Any) -> Handler:
    own = {"python": "m:f", "consumes": ["t"], "dlq": "none", **options}
    return build(document(topics={"t": {}}, handlers={"h": own}, **sections), BASE).handlers["h"]


def test_a_whole_document() -> None:
    pipeline = build(VALID, BASE)
    assert (pipeline.name, pipeline.namespace, pipeline.base) == ("shop", "", BASE)
    assert pipeline.kafka == KafkaSettings("localhost:9092", {}, {"fetch.min.bytes": "1"})
    assert list(pipeline.topics) == ["orders", "paid", "paid.dlq", "orders.dlq"]
    assert pipeline.events == {"order": EventTemplate("order", "orders", None, {"eventId": "uuid"})}
    assert pipeline.handlers["api"] == Handler(
        "api", "service", "python -m api", "shop.api", produces=("orders",), port=3001, ready=ReadyCheck("/")
    )
    assert pipeline.handlers["pay"] == Handler(
        "pay", "python", "shop:pay", "shop.pay", ("orders",), ("paid",), dlq="paid.dlq"
    )
    assert pipeline.handlers["watch"] == Handler(
        "watch", "python", "shop:watch", "shop.watch", ("orders", "paid", "paid.dlq"), dlq="none", dedup=None
    )
    assert pipeline.dlq_of(pipeline.handlers["watch"], "orders") is None
    assert pipeline.tree == VALID


def test_the_built_in_defaults_are_the_documented_ones() -> None:
    assert topics(topics={"t": {"dlq": "d"}}) == {
        "t": Topic("t", "t", 3, 1, {"retention.ms": WEEK, "cleanup.policy": "delete"}, dlq="d"),
        "d": Topic(
            "d",
            "d",
            3,
            1,
            {"retention.ms": MONTH, "cleanup.policy": "delete", "max.message.bytes": str(1_048_588 + 64_000)},
            is_dlq=True,
            dlq_for=("t",),
            derived=True,
            follows=True,
        ),
    }
    assert handler({}) == Handler("h", "python", "m:f", "p.h", ("t",), dlq="none")


def test_a_topic_says_otherwise_than_the_defaults() -> None:
    defaults = {"topic": {"partitions": 6, "replication": 3, "retention": "1d", "configs": {"a": 1, "b": 2}}}
    found = topics(defaults=defaults, topics={"t": {"partitions": 1, "cleanup": "compact", "configs": {"b": 3}}})
    configs = {"retention.ms": "86400000", "cleanup.policy": "compact", "a": "1", "b": "3"}
    assert found["t"] == Topic("t", "t", 1, 3, configs)


def test_configs_become_the_brokers_strings() -> None:
    configs = {
        "max.message.bytes": "1MB",
        "segment.ms": "1h",
        "retention.ms": "unlimited",
        "flush.ms": 1000,
        "preallocate": True,
        "min.cleanable.dirty.ratio": 0.10,
        "x.bytes": "2GiB",
    }
    assert topics(topics={"t": {"configs": configs}})["t"].configs == {
        "max.message.bytes": "1000000",
        "segment.ms": "3600000",
        "retention.ms": "-1",
        "flush.ms": "1000",
        "preallocate": "true",
        "min.cleanable.dirty.ratio": "0.1",
        "x.bytes": "2147483648",
        "cleanup.policy": "delete",
    }


def test_unlimited_retention_is_minus_one() -> None:
    assert topics(topics={"t": {"retention": "unlimited"}})["t"].configs["retention.ms"] == "-1"


def test_a_derived_dlq_fits_all_it_serves() -> None:
    found = topics(
        topics={
            "a": {"partitions": 12, "dlq": "d"},
            "b": {"partitions": 2, "replication": 3, "dlq": "d", "configs": {"max.message.bytes": "5MB"}},
            "c": {"partitions": 20},
        },
        handlers={"h": {"python": "m:f", "consumes": ["c", "a"], "dlq": "d"}},
    )
    dlq = found["d"]
    assert (dlq.partitions, dlq.replication, dlq.dlq_for) == (20, 3, ("a", "b", "c"))
    assert dlq.configs["max.message.bytes"] == "5064000"


def test_defaults_and_declarations_lie_over_what_is_derived() -> None:
    sources = {"a": {"partitions": 12, "dlq": "d"}, "b": {"dlq": "e"}}
    defaults = {"dlq": {"partitions": 2, "retention": "unlimited", "configs": {"compression.type": "zstd"}}}
    found = topics(defaults=defaults, topics={**sources, "e": {"partitions": 5, "retention": "1d"}})
    assert (found["d"].partitions, found["d"].derived) == (2, True)
    assert found["d"].configs["retention.ms"] == "-1" and found["d"].configs["compression.type"] == "zstd"
    assert (found["e"].partitions, found["e"].derived, found["e"].is_dlq) == (5, False, True)
    assert found["e"].configs["retention.ms"] == "86400000"
    assert found["e"].configs["max.message.bytes"] == str(1_048_588 + 64_000)


def test_topic_defaults_are_not_those_of_dlqs() -> None:
    defaults = {"topic": {"retention": "1h", "cleanup": "compact", "configs": {"a": "b"}}}
    dlq = topics(defaults=defaults, topics={"t": {"dlq": "d"}})["d"]
    assert (dlq.configs["retention.ms"], dlq.configs["cleanup.policy"]) == (MONTH, "delete")
    assert "a" not in dlq.configs


def test_the_namespace_goes_before_topics_and_groups() -> None:
    own = {"python": "m:f", "consumes": ["t"], "group": "old"}
    pipeline = build(
        document(namespace="dev", topics={"t": {"dlq": "d"}}, handlers={"h": own, "i": {**own, "group": "x.y"}}), BASE
    )
    assert [topic.kafka_name for topic in pipeline.topics.values()] == ["dev.t", "dev.d"]
    assert list(pipeline.topics) == ["t", "d"] and pipeline.topics["t"].dlq == "d"
    assert [own.group for own in pipeline.handlers.values()] == ["dev.old", "dev.x.y"]


def test_handler_options() -> None:
    options = {
        "from": "latest",
        "group": "g",
        "replicas": 2,
        "timeout": "unlimited",
        "retry": {"attempts": 3, "backoff": "1s"},
        "dedup": {"by": "id"},
        "unavailable": ["httpx:ConnectError"],
        "restart": False,
        "stop-timeout": "500ms",
        "env": {"PORT": 3001, "VERSION": 1.5, "DEBUG": True, "NAME": "x"},
        "essential": True,
    }
    assert handler(options) == Handler(
        "h",
        "python",
        "m:f",
        "g",
        ("t",),
        dlq="none",
        start_from="latest",
        replicas=2,
        timeout=math.inf,
        retry=RetryPolicy(3, 1.0, 30.0),
        dedup=DedupPolicy("id", 600.0),
        unavailable=("httpx:ConnectError",),
        restart=False,
        stop_timeout=0.5,
        env={"PORT": "3001", "VERSION": "1.5", "DEBUG": "true", "NAME": "x"},
        essential=True,
    )


def test_handler_defaults_merge_key_by_key() -> None:
    defaults = {"handler": {"retry": {"attempts": 9, "backoff": "2s"}, "env": {"A": "1", "B": "2"}, "dedup": "off"}}
    own = handler({"retry": {"backoff": "3s"}, "env": {"B": "3"}}, defaults=defaults)
    assert own.retry == RetryPolicy(9, 3.0, 30.0)
    assert (own.env, own.dedup) == ({"A": "1", "B": "3"}, None)
    assert handler({"dedup": {"window": "1m"}}, defaults=defaults).dedup == DedupPolicy("eventId", 60.0)


def test_the_default_dlq_of_handlers_is_not_one_of_services() -> None:
    handlers = {"h": {"python": "m:f", "consumes": ["t"]}, "s": {"service": "x"}}
    pipeline = build(document(defaults={"handler": {"dlq": "d"}}, topics={"t": {}}, handlers=handlers), BASE)
    assert (pipeline.handlers["h"].dlq, pipeline.handlers["s"].dlq) == ("d", None)
    assert pipeline.topics["d"].dlq_for == ("t",)


@pytest.mark.parametrize("text", ["off", "'off'", '"off"'])
def test_dedup_off_as_people_write_it(tmp_path: Path, text: str) -> None:
    own = f"h: {{python: m:f, consumes: [no], dlq: none, dedup: {text}}}"
    pipeline = loaded(tmp_path, f"kpipe: 1\npipeline: p\ntopics: {{no: }}\nhandlers: {{{own}}}\n").pipeline
    assert pipeline is not None and pipeline.handlers["h"].dedup is None and list(pipeline.topics) == ["no"]


def test_text_of_env_and_properties_is_as_it_is_written(tmp_path: Path) -> None:
    text = "kpipe: 1\npipeline: p\nkafka: {client: {a: 1.10, b: 010, c: true}}\n"
    text += "handlers: {s: {service: x, env: {A: 3.10, B: 1_000, C: yes, D: 0x1F, E: 2024-01-01}}}\n"
    pipeline = loaded(tmp_path, text).pipeline
    assert pipeline is not None
    assert pipeline.kafka.client == {"a": "1.10", "b": "010", "c": "true"}
    expected = {"A": "3.10", "B": "1_000", "C": "yes", "D": "0x1F", "E": "2024-01-01"}
    assert pipeline.handlers["s"].env == expected


def test_the_smallest_document() -> None:
    assert build(document(), BASE) == Pipeline("p", "", BASE, KafkaSettings(), {}, {}, {}, document())


def test_building_leaves_its_tree_alone() -> None:
    tree = document(topics={"t": {"partitions": "x", "foo": 1}})
    before = document(topics={"t": {"partitions": "x", "foo": 1}})
    with pytest.raises(FindingsError) as error:
        build(tree, BASE)
    assert tree == before
    assert [finding.code for finding in error.value.findings] == ["type", "unknown-key"]


def test_building_shows_no_value_because_it_may_be_a_secret() -> None:
    tree = document(kafka={"bootstrap": "hunter2 !"}, topics={"t": {"cleanup": "hunter2", "partitions": 0}})
    with pytest.raises(FindingsError) as error:
        build(tree, BASE)
    for finding in error.value.findings:
        assert "hunter2" not in finding.message + finding.hint
