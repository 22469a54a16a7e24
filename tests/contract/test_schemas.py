"""The example's schemas: what they take and what they refuse, member by member."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load
from orchestrator.contracts import decode_json, load_contracts

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "orders.created": "order",
    "payments.authorized": "payment-authorized",
    "payments.rejected": "payment-rejected",
}
LOADED = load([ROOT / "pipeline.yaml"], {**os.environ, "KAFKA_BOOTSTRAP": "", "KPIPE_ENV": ""})
assert LOADED.pipeline is not None, LOADED.findings
PIPELINE = LOADED.pipeline
CONTRACTS = load_contracts(PIPELINE)


def example(topic: str) -> dict[str, Any]:
    value = decode_json((ROOT / "schemas" / "examples" / f"{EXAMPLES[topic]}.json").read_bytes())
    assert isinstance(value, dict)
    return value


IDS = [None, 5, "", "not-a-uuid", "8b1f7a52-0d7e-4c39-8d3a", "8b1f7a520d7e4c398d3a6f1e2c5b9a70x"]
TIMES = [None, 1768473000, "", "2026-01-15", "2026-01-15T10:30:00", "2026-13-01T00:00:00Z", "15.01.2026"]
BAD: dict[str, list[Any]] = {
    "eventId": IDS,
    "orderId": IDS,
    "userId": [None, 5, "", "x" * 201, ["user-123"]],
    "amount": [None, "ten", "99.99", 0, -1, 0.0, -0.01, True, 1_000_000_001, [99.99], {}],
    "items": [None, [], "laptop", [1], ["laptop", None], [""], [["laptop"]], {}],
    "createdAt": TIMES,
    "processedAt": TIMES,
    "authorizationCode": [None, "", 5],
    "rejectionReason": [None, "", 5],
    "status": [None, "", "created", "PENDING", 1],
}
GOOD: dict[str, list[Any]] = {
    "userId": ["u", "größe", "x" * 200],
    "amount": [0.01, 1, 99.99, 100, 150.0, 0.30000000000000004, 999_999_999.99, 1_000_000_000],
    "items": [["laptop"], ["laptop", "laptop"], ["größe"] * 1000],
    "createdAt": ["2026-01-15T10:30:00Z", "2026-01-15T12:30:00.123456+02:00"],
    "processedAt": ["2026-01-15T10:30:00.120Z"],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(topic, name, value, id=f"{topic}-{name}-{value!r:.30}")
        for topic in EXAMPLES
        for name in example(topic)
        for value in table.get(name, [])
    ]


@pytest.mark.parametrize("topic", EXAMPLES)
def test_the_example_is_valid(topic: str) -> None:
    assert CONTRACTS[topic].violations(example(topic)) == ()


@pytest.mark.parametrize(("topic", "name", "value"), cases(BAD))
def test_refused(topic: str, name: str, value: Any) -> None:
    found = CONTRACTS[topic].violations({**example(topic), name: value})
    assert found
    assert all(violation.path.startswith(f"$.{name}") for violation in found)


@pytest.mark.parametrize(("topic", "name", "value"), cases(GOOD))
def test_taken(topic: str, name: str, value: Any) -> None:
    assert CONTRACTS[topic].violations({**example(topic), name: value}) == ()


@pytest.mark.parametrize("topic", EXAMPLES)
def test_every_member_is_required(topic: str) -> None:
    for name in example(topic):
        value = {other: v for other, v in example(topic).items() if other != name}
        assert [(v.path, v.message) for v in CONTRACTS[topic].violations(value)] == [(f"$.{name}", "is required")]


@pytest.mark.parametrize("topic", EXAMPLES)
def test_a_producer_may_add_a_member(topic: str) -> None:
    assert CONTRACTS[topic].is_valid({**example(topic), "currency": "EUR"})


@pytest.mark.parametrize("topic", EXAMPLES)
@pytest.mark.parametrize("value", [None, 1, "text", [], True])
def test_an_event_is_an_object(topic: str, value: Any) -> None:
    assert not CONTRACTS[topic].is_valid(value)


def test_every_topic_with_a_schema_is_covered_here() -> None:
    assert {topic.name for topic in PIPELINE.topics.values() if topic.schema} == set(EXAMPLES)


def test_the_topics_are_those_of_the_design() -> None:
    day = 24 * 60 * 60 * 1000
    shape = {
        name: (topic.partitions, topic.configs["retention.ms"], topic.configs["cleanup.policy"], topic.key)
        for name, topic in PIPELINE.topics.items()
    }
    event, letter = (3, str(7 * day), "delete", "orderId"), (3, str(30 * day), "delete", None)
    assert shape == {
        "orders.created": event,
        "payments.authorized": event,
        "payments.rejected": event,
        "orders.dlq": letter,
        "payments.dlq": letter,
    }
