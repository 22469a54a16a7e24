"""What a document of the right shape can still get wrong: each rule broken once, and once just kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.owned import ALIASES, OWNED
from tests.support.config import column, document, found, only, yaml_text


def handler(**options: Any) -> dict[str, Any]:
    return {"python": "m:f", "consumes": ["t"], "dlq": "none", **options}


def codes(folder: Path, **sections: Any) -> list[str]:
    return [finding.code for finding in found(folder, document(**sections))]


# The whole pipeline


def test_a_topic_that_nothing_sends_to_is_a_warning(tmp_path: Path) -> None:
    handlers = {"h": handler(consumes=["t", "u"]), "i": handler(consumes=["t"])}
    sections = {"topics": {"t": {}, "u": {}}, "events": {"e": {"topic": "u"}}, "handlers": handlers}
    finding = only(found(tmp_path, document(**sections), alone=False))
    assert (finding.severity, finding.code) == ("warning", "unproduced")
    assert finding.message == "nothing in this file sends to `t`, which `h` consumes"
    assert finding.column == yaml_text(document(**sections)).index('"t", "u"') + 1


@pytest.mark.parametrize(
    "more",
    [
        {"handlers": {"s": {"service": "x", "produces": ["t"]}}},
        {"handlers": {"g": {"python": "m:f", "consumes": ["u.dlq"], "dlq": "none", "produces": ["t"]}}},
        {"events": {"e": {"topic": "t"}}},
        {"events": {"e": 7}},
    ],
)
def test_whatever_sends_to_a_topic_will_do(tmp_path: Path, more: dict[str, Any]) -> None:
    handlers = {"h": handler(), **more.pop("handlers", {})}
    topics = {"t": {}, "u": {"dlq": "u.dlq"}}
    left = found(tmp_path, document(topics=topics, handlers=handlers, **more), alone=False)
    assert "unproduced" not in [finding.code for finding in left]


def test_a_dlq_that_forgets_letters_before_their_events_is_a_warning(tmp_path: Path) -> None:
    topics = {"t": {"dlq": "d", "retention": "60d"}, "u": {"dlq": "d", "retention": "40d"}}
    finding = only(found(tmp_path, document(topics=topics)))
    assert (finding.severity, finding.code) == ("warning", "dlq-retention")
    assert finding.message == "`d` keeps dead letters for 30d, but `t` keeps their events for 60d"
    own = document(topics={**topics, "d": {"retention": "59d"}})
    assert only(found(tmp_path, own)).column == column(own, '"59d"')
    assert codes(tmp_path, topics={**topics, "d": {"retention": "60d"}}) == []
    forever = {"t": {"dlq": "d", "retention": "unlimited"}}
    assert codes(tmp_path, topics=forever) == ["dlq-retention"]
    assert codes(tmp_path, topics=forever, defaults={"dlq": {"retention": "unlimited"}}) == []
    assert codes(tmp_path, topics={"t": {"dlq": "d", "cleanup": "compact", "key": "id"}}) == []


def test_compaction_wants_keys_and_no_letters(tmp_path: Path) -> None:
    tree = document(topics={"t": {"cleanup": "compact"}})
    finding = only(found(tmp_path, tree))
    assert (finding.severity, finding.code, finding.column) == ("warning", "compaction", column(tree, '"compact"'))
    assert codes(tmp_path, defaults={"topic": {"configs": {"cleanup.policy": "compact"}}}, topics={"t": {}}) == [
        "compaction"
    ]
    assert codes(tmp_path, topics={"t": {"cleanup": "compact", "key": "id"}}) == []
    dlq = {"t": {"dlq": "d"}, "d": {"cleanup": "compact,delete"}}
    assert "a letter removes the earlier ones" in only(found(tmp_path, document(topics=dlq))).message


# Names


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", "", ".", "..", "a:b", "none", "__consumer_offsets"])
def test_a_name_that_kafka_or_the_format_cannot_take(tmp_path: Path, name: str) -> None:
    finding = only(found(tmp_path, document(topics={name: {}})))
    assert (finding.code, finding.line, finding.column) == ("topic-name", 1, 42)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "no", "1", "...", "_x", "__x", "x" * 249])
def test_a_name_that_kafka_takes(tmp_path: Path, name: str) -> None:
    assert codes(tmp_path, topics={name: {}}) == []


def test_the_namespace_counts_for_the_length(tmp_path: Path) -> None:
    finding = only(found(tmp_path, document(namespace="dev", topics={"x" * 246: {}})))
    assert finding.code == "topic-name" and "250 characters long with its namespace" in finding.message
    assert codes(tmp_path, namespace="dev", topics={"x" * 245: {}}) == []


def test_the_names_of_derived_dlqs_are_checked_where_they_are_named(tmp_path: Path) -> None:
    text = "kpipe: 1\npipeline: p\ntopics:\n  a.b:\n    dlq: d e\n  c:\n    dlq: a_b\n"
    places = [(f.code, f.line, f.column) for f in found(tmp_path, text)]
    assert places == [("topic-name", 5, 10), ("topic-collision", 7, 10)]


def test_a_namespace_makes_an_internal_name_ordinary(tmp_path: Path) -> None:
    assert codes(tmp_path, namespace="dev", topics={"__consumer_offsets": {}}) == []


# Topics


@pytest.mark.parametrize(
    ("configs", "code"),
    [
        ({"max.message.bytes": "1XB"}, "unit"),
        ({"max.message.bytes": "1.5"}, "unit"),
        ({"max.message.bytes": "unlimited"}, "unit"),
        ({"max.message.bytes": "9" * 30}, "unit"),
        ({"max.message.bytes": "3GB"}, "value"),
        ({"segment.ms": "1w"}, "unit"),
        ({"retention.ms": "1h"}, "conflict"),
        ({"min.insync.replicas": 2}, "replication"),
    ],
)
def test_configs_that_cannot_be(tmp_path: Path, configs: dict[str, Any], code: str) -> None:
    assert codes(tmp_path, topics={"t": {"retention": "7d", "configs": configs}}) == [code]


@pytest.mark.parametrize(
    "configs",
    [
        {"max.message.bytes": "1MB", "segment.ms": "1h", "retention.bytes": "unlimited", "retention.ms": -1},
        {"min.insync.replicas": 2, "compression.type": "zstd", "unclean.leader.election.enable": False},
    ],
)
def test_configs_that_can_be(tmp_path: Path, configs: dict[str, Any]) -> None:
    assert codes(tmp_path, topics={"t": {"replication": 3, "configs": configs}}) == []


def test_a_dlq_that_is_too_small_for_its_letters_is_a_warning(tmp_path: Path) -> None:
    topics = {"t": {"dlq": "d"}, "d": {"configs": {"max.message.bytes": 1_112_587}}}
    finding = only(found(tmp_path, document(topics=topics)))
    assert (finding.code, finding.severity) == ("dlq-size", "warning")
    topics["d"] = {"configs": {"max.message.bytes": 1_112_588}}
    assert codes(tmp_path, topics=topics) == []


# DLQs


def test_a_dlq_of_its_own_events(tmp_path: Path) -> None:
    finding = only(found(tmp_path, document(topics={"t": {"dlq": "t"}})))
    assert finding.code == "dlq-circle" and finding.message == "`t` is a DLQ of its own events"


def test_dlqs_in_a_circle_are_one_finding(tmp_path: Path) -> None:
    topics = {"a": {"dlq": "b"}, "b": {"dlq": "c"}, "c": {"dlq": "a"}}
    finding = only(found(tmp_path, document(topics=topics)))
    assert finding.code == "dlq-circle" and "`a` → `b` → `c` → `a`" in finding.message


def test_a_handler_can_close_the_circle(tmp_path: Path) -> None:
    topics = {"a": {"dlq": "b"}, "b": {}}
    assert codes(tmp_path, topics=topics, handlers={"h": handler(consumes=["b"], dlq="a")}) == ["dlq-circle"]
    assert codes(tmp_path, topics=topics, handlers={"h": handler(consumes=["b"], dlq="b")}) == ["dlq-circle"]


def test_the_default_dlq_of_handlers_may_be_consumed_by_one(tmp_path: Path) -> None:
    handlers = {"h": {"python": "m:f", "consumes": ["t"]}, "i": {"python": "m:f", "consumes": ["d"]}}
    assert codes(tmp_path, defaults={"handler": {"dlq": "d"}}, topics={"t": {}}, handlers=handlers) == []


def test_a_dlq_of_a_dlq_is_never_used(tmp_path: Path) -> None:
    finding = only(found(tmp_path, document(topics={"a": {"dlq": "b"}, "b": {"dlq": "c"}})))
    assert (finding.code, finding.severity) == ("dlq-unused", "warning")


def test_a_topic_with_a_schema_is_no_dlq(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    assert codes(tmp_path, topics={"a": {"dlq": "b"}, "b": {"schema": "s.json"}}) == ["dlq-schema"]


def test_handlers_do_not_write_to_dlqs(tmp_path: Path) -> None:
    handlers = {"h": {"service": "x", "produces": ["d"]}}
    assert codes(tmp_path, topics={"t": {"dlq": "d"}}, handlers=handlers) == ["dlq-output"]


def test_a_consumed_topic_needs_a_dlq_or_a_none(tmp_path: Path) -> None:
    own = {"python": "m:f", "consumes": ["t", "u"]}
    finding = only(found(tmp_path, document(topics={"t": {}, "u": {"dlq": "d"}}, handlers={"h": own})))
    assert finding.code == "no-dlq" and "`t`" in finding.message
    for dlq in ("none", "d"):
        assert codes(tmp_path, topics={"t": {}, "u": {"dlq": "d"}}, handlers={"h": {**own, "dlq": dlq}}) == []


def test_a_topic_may_say_that_it_has_no_dlq(tmp_path: Path) -> None:
    assert codes(tmp_path, topics={"t": {"dlq": "none"}}) == []
    assert codes(tmp_path, topics={"t": {"dlq": "none"}}, handlers={"h": {"python": "m:f", "consumes": ["t"]}}) == [
        "no-dlq"
    ]


def test_a_consumed_dlq_needs_none(tmp_path: Path) -> None:
    handlers = {"h": {"python": "m:f", "consumes": ["d"]}}
    assert codes(tmp_path, topics={"t": {"dlq": "d"}}, handlers=handlers) == []


# Handlers and events


@pytest.mark.parametrize(
    ("sections", "name", "hint"),
    [
        ({"topics": {"order": {}}, "handlers": {"h": handler(consumes=["orders"])}}, "orders", "did you mean `order`?"),
        ({"topics": {"t": {}}, "handlers": {"h": handler(produces=["xyz"])}}, "xyz", "declare it"),
        ({"topics": {"t": {"dlq": "t.dlq"}}, "handlers": {"h": handler(consumes=["t.dql"])}}, "t.dql", "`t.dlq`"),
        ({"topics": {"t": {}}, "events": {"e": {"topic": "tt"}}}, "tt", "`t`"),
    ],
)
def test_a_topic_that_nothing_declares(tmp_path: Path, sections: Any, name: str, hint: str) -> None:
    finding = only(found(tmp_path, document(**sections)))
    assert (finding.code, finding.column) == ("unknown-topic", column(document(**sections), f'"{name}"'))
    assert hint in finding.hint


def test_two_handlers_in_one_group(tmp_path: Path) -> None:
    handlers = {"h": handler(group="g"), "i": handler(group="g"), "j": handler(group="p.k"), "k": handler()}
    findings = found(tmp_path, document(topics={"t": {}}, handlers=handlers))
    assert [f.code for f in findings] == ["group", "group"]
    assert "`i` and `h`" in findings[0].message and "`k` and `j`" in findings[1].message


def test_more_replicas_than_partitions_is_a_warning(tmp_path: Path) -> None:
    topics = {"t": {"partitions": 2}, "u": {"partitions": 3}}
    finding = only(found(tmp_path, document(topics=topics, handlers={"h": handler(replicas=3)})))
    assert (finding.code, finding.severity) == ("replicas", "warning")
    assert codes(tmp_path, topics=topics, handlers={"h": handler(replicas=5, consumes=["t", "u"])}) == []


def test_an_event_with_the_name_of_another_topic(tmp_path: Path) -> None:
    topics: dict[str, Any] = {"t": {}, "u": {}}
    assert codes(tmp_path, topics=topics, events={"t": {"topic": "u"}}) == ["event-name"]
    assert codes(tmp_path, topics=topics, events={"t": {"topic": "t"}}) == []


# Services


def test_services_cannot_share_a_port(tmp_path: Path) -> None:
    one, two = {"service": "x", "port": 3001}, {"service": "y", "port": 3001}
    finding = only(found(tmp_path, document(handlers={"one": one, "two": two})))
    assert finding.code == "port" and finding.message == "`two` and `one` have the same port 3001"


def test_replicas_cannot_share_a_port(tmp_path: Path) -> None:
    assert codes(tmp_path, handlers={"s": {"service": "x", "port": 1, "replicas": 2}}) == ["port"]
    assert codes(tmp_path, handlers={"s": {"service": "x", "replicas": 2}}) == []


@pytest.mark.parametrize(
    ("command", "expected"), [("a 'b c'", []), ("a 'b", ["command"]), ("a \\", ["command"]), ("''", ["command"])]
)
def test_a_command_has_to_be_splittable(tmp_path: Path, command: str, expected: list[str]) -> None:
    assert codes(tmp_path, handlers={"s": {"service": command}}) == expected


@pytest.mark.parametrize("name", ["KPIPE_CONFIG_FD", "KPIPE_STATUS_FD", "KPIPE_BOOTSTRAP"])
def test_variables_that_kpipe_sets(tmp_path: Path, name: str) -> None:
    assert codes(tmp_path, handlers={"s": {"service": "x", "env": {name: "1", "KPIPE_ENV": "dev"}}}) == ["env"]


# Files


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, "missing-file", "cannot read `s.json`: No such file or directory"),
        ("{", "json", "`s.json` is not JSON"),
        ('{"a": NaN}', "json", "line 1, column 7"),
        ('{"type": "strin"}', "schema", "`s.json` is not a JSON Schema"),
        ('{"$schema": "https://example.com/nope"}', "schema", "`s.json` is not a JSON Schema"),
        ("[]", "schema", "`s.json` is not a JSON Schema"),
        ("null", "schema", "`s.json` is not a JSON Schema"),
    ],
)
def test_a_schema_that_is_none(tmp_path: Path, content: str | None, code: str, message: str) -> None:
    if content is not None:
        (tmp_path / "s.json").write_text(content)
    finding = only(found(tmp_path, document(topics={"t": {"schema": "s.json"}})))
    assert (finding.code, finding.column) == (code, 58) and message in finding.message


@pytest.mark.parametrize("content", ["{}", "true", '{"type": "object", "properties": {"id": {}}}'])
def test_a_schema_that_is_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.json").write_text(content)
    assert codes(tmp_path, topics={"t": {"schema": "s.json", "key": "id"}}) == []


def test_an_example_has_to_be_there_and_json(tmp_path: Path) -> None:
    events = {"a": {"topic": "t", "example": "nope.json"}, "b": {"topic": "t", "example": "bad.json"}}
    (tmp_path / "bad.json").write_text("{'a': 1}")
    assert codes(tmp_path, topics={"t": {}}, events=events) == ["missing-file", "json"]


def test_fields_that_the_schema_does_not_know_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"properties": {"orderId": {}, "id": {}}}')
    topics = {"t": {"schema": "s.json", "key": "orderID"}}
    findings = found(tmp_path, document(topics=topics, handlers={"h": handler()}))
    assert [(f.code, f.severity) for f in findings] == [("unknown-field", "warning")] * 2
    assert findings[0].hint == "did you mean `orderId`?" and "`eventId`" in findings[1].message
    topics["t"]["key"] = "orderId"
    assert codes(tmp_path, topics=topics, handlers={"h": handler(dedup={"by": "id"})}) == []
    assert codes(tmp_path, topics=topics, handlers={"h": handler(dedup="off")}) == []


# Kafka


@pytest.mark.parametrize(
    "name", [*OWNED, *(alias for alias, name in ALIASES.items() if name in OWNED), "stats_cb", "logger"]
)
@pytest.mark.parametrize("kind", ["client", "consumer", "producer", "admin"])
def test_properties_that_kpipe_owns(tmp_path: Path, kind: str, name: str) -> None:
    tree = document(kafka={kind: {name: "x"}})
    finding = only(found(tmp_path, tree))
    assert finding.code == "owned-property" and f"`{name}`" in finding.message
    assert finding.column == column(tree, f'"{name}"')


def test_other_properties_are_free_but_know_no_units(tmp_path: Path) -> None:
    assert codes(tmp_path, kafka={"client": {"security.protocol": "SSL", "socket.timeout.ms": 1000}}) == []
    finding = only(found(tmp_path, document(kafka={"client": {"socket.timeout.ms": "2s"}})))
    assert finding.code == "unit" and finding.hint.endswith("write 2000")
    assert codes(tmp_path, kafka={"consumer": {"max.poll.interval.ms": "soon"}}) == ["unit"]
    assert codes(tmp_path, kafka={"producer": {"linger.ms": 0.5}}) == []


@pytest.mark.parametrize(
    "servers", ["a:9092", "a,b:1", "10.0.0.1:9092, b:2", "[::1]:9092", "SASL_SSL://a.b-c:9092", ""]
)
def test_addresses(tmp_path: Path, servers: str) -> None:
    assert codes(tmp_path, kafka={"bootstrap": servers}) == []


@pytest.mark.parametrize("servers", ["a b", "a:b", "a:0", "a:65536", "a,,b", ":9092", "http://a:1/x", "a:1,"])
def test_what_is_no_address(tmp_path: Path, servers: str) -> None:
    assert codes(tmp_path, kafka={"bootstrap": servers}) == ["bootstrap"]


# Timings


def timing(folder: Path, topic: Any, **options: Any) -> list[str]:
    return codes(folder, topics={"t": topic}, handlers={"h": handler(**options)})


def test_attempts_have_to_end_before_the_record_expires(tmp_path: Path) -> None:
    # 10 x 30 s, and waits of 1, 2, 4 and 6 x 5 s, each up to a fifth longer: 344.4 s.
    retry = {"attempts": 10, "backoff": "1s", "max-backoff": "5s"}
    assert timing(tmp_path, {"retention": "300s"}, retry=retry, dedup="off") == ["timing"]
    assert timing(tmp_path, {"retention": "344s"}, retry=retry, dedup="off") == ["timing"]
    assert timing(tmp_path, {"retention": "345s"}, retry=retry, dedup="off") == []


@pytest.mark.parametrize("topic", [{"retention": "unlimited"}, {"retention": "1s", "cleanup": "compact", "key": "id"}])
def test_a_topic_that_deletes_nothing_by_time_has_time(tmp_path: Path, topic: Any) -> None:
    assert timing(tmp_path, topic, retry={"attempts": 1000000}) == []


def test_an_unlimited_timeout_proves_nothing(tmp_path: Path) -> None:
    findings = found(
        tmp_path, document(topics={"t": {"retention": "1h"}}, handlers={"h": handler(timeout="unlimited")})
    )
    assert [finding.severity for finding in findings] == ["warning"]


def test_many_attempts_are_counted_quickly(tmp_path: Path) -> None:
    retry = {"attempts": 1_000_000, "backoff": "0s", "max-backoff": "0s"}
    assert timing(tmp_path, {"retention": "347d"}, retry=retry) == ["timing"]


def test_the_dedup_window_has_to_be_kept(tmp_path: Path) -> None:
    retry = {"attempts": 1}
    assert timing(tmp_path, {"retention": "9m"}, retry=retry) == ["timing"]
    assert timing(tmp_path, {"retention": "10m"}, retry=retry) == []
    assert timing(tmp_path, {"retention": "9m"}, retry=retry, dedup={"window": "9m"}) == []


def test_the_longest_wait_is_not_shorter_than_the_first(tmp_path: Path) -> None:
    assert timing(tmp_path, {}, retry={"backoff": "31s"}) == ["timing"]
    assert timing(tmp_path, {}, retry={"backoff": "31s", "max-backoff": "31s"}) == []


def test_an_event_that_outlasts_a_rebalance_is_a_warning(tmp_path: Path) -> None:
    topic = {"retention": "unlimited"}
    assert timing(tmp_path, topic, timeout="151s") == timing(tmp_path, topic, timeout="unlimited") == ["timing"]
    assert timing(tmp_path, topic, timeout="150s") == []
    for kind in ("client", "consumer"):
        kafka = {kind: {"max.poll.interval.ms": 59999}}
        finding = only(found(tmp_path, document(kafka=kafka, topics={"t": {}}, handlers={"h": handler()})))
        assert (finding.code, finding.severity) == ("timing", "warning")


def test_the_poll_interval_is_not_shorter_than_the_session(tmp_path: Path) -> None:
    assert codes(tmp_path, kafka={"consumer": {"max.poll.interval.ms": 9999}}) == ["timing"]
    assert codes(tmp_path, kafka={"client": {"max.poll.interval.ms": 9999, "session.timeout.ms": 9999}}) == []


def test_a_finding_about_defaults_stands_at_the_defaults(tmp_path: Path) -> None:
    text = "kpipe: 1\npipeline: p\ndefaults:\n  handler:\n    retry: {attempts: 1000000}\n"
    text += "topics: {t: }\nhandlers: {h: {python: m:f, consumes: [t], dlq: none}}\n"
    finding = only(found(tmp_path, text))
    assert (finding.code, finding.line, finding.column) == ("timing", 5, 12)


# Kinds


@pytest.mark.parametrize(
    ("kind", "target", "options"),
    [
        ("http", "http://localhost:1/x", {"unavailable": ["a:B"]}),
        ("python", "a:b", {"health": "/"}),
        ("exec", ["a"], {"interpreter": "python3"}),
        ("python", "a:b", {"headers": {"Authorization": "x"}}),
    ],
)
def test_options_of_another_kind_are_misplaced(tmp_path: Path, kind: str, target: Any, options: dict[str, Any]) -> None:
    handlers = {"h": {kind: target, "consumes": ["t"], "dlq": "none", **options}}
    finding = only(found(tmp_path, document(topics={"t": {}}, handlers=handlers)))
    assert finding.code == "misplaced-key" and f"`{next(iter(options))}`" in finding.message


# Sizes


@pytest.mark.parametrize(
    ("kafka", "warned"),
    [
        ({"producer": {"message.max.bytes": 1_000_000}}, True),
        ({"client": {"message.max.bytes": "1000000"}}, True),
        ({"producer": {"queue.buffering.max.kbytes": 1_000}}, True),
        ({"consumer": {"receive.message.max.bytes": 1_100_000}}, True),
        ({"producer": {"message.max.bytes": 1_112_588}, "consumer": {"fetch.message.max.bytes": 1}}, False),
        ({"admin": {"receive.message.max.bytes": 1_000}}, False),
    ],
)
def test_a_client_that_takes_less_than_a_topic_is_a_warning(
    tmp_path: Path, kafka: dict[str, Any], warned: bool
) -> None:
    """The DLQ takes the most: Kafka's 1,048,588 bytes and 64,000 more."""
    whole = document(kafka=kafka, topics={"t": {"dlq": "d"}})
    told = [finding for finding in found(tmp_path, whole) if finding.code == "narrow-client"]
    assert [finding.severity for finding in told] == ["warning"] * warned
    assert all("`d` takes 1112588" in finding.message for finding in told)
