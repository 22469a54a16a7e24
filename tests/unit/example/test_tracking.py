"""tracking: events and dead letters, in any order, any number of times, into one file that others read."""

from __future__ import annotations

import json
import multiprocessing
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import tracking
from handlers.payments import authorize
from handlers.readmodel import ORDER_CREATED, Fact, view
from handlers.store import Store
from orchestrator import Event, Unavailable
from tests.unit.example.support import ORDER_ID, T0, event, letter, order, published


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where `track` writes; its store is closed afterwards."""
    path = tmp_path / "deep" / "tracking.db"
    monkeypatch.setenv("TRACKING_DB", str(path))
    monkeypatch.delenv("PAYMENT_LIMIT", raising=False)
    tracking._store.cache_clear()
    yield path
    tracking._store(path).close()
    tracking._store.cache_clear()


def known(path: Path, order_id: str = ORDER_ID) -> list[Fact]:
    store = Store(path)
    try:
        return store.facts(order_id)
    finally:
        store.close()


def status(path: Path, order_id: str = ORDER_ID) -> str | None:
    facts = known(path, order_id)
    return view(order_id, facts)["status"] if facts else None


def created(**changes: Any) -> Event:
    return event("orders.created", order(**changes), key=ORDER_ID.encode())


def paid(amount: float = 99.99) -> Event:
    emit = authorize(created(amount=amount))
    assert emit is not None
    record = published(emit.topic, emit.value)
    return event(emit.topic, json.loads(record.value or b""), key=record.key, timestamp=T0 + 100)


def test_an_order_on_its_way(path: Path) -> None:
    tracking.track(created())
    assert status(path) == "CREATED"
    tracking.track(paid())
    assert status(path) == "PAYMENT_AUTHORIZED"
    assert status(path, "another") is None


def test_repetitions_are_not_counted(path: Path) -> None:
    for _ in range(3):
        tracking.track(created())
        tracking.track(paid())
    facts = known(path)
    assert [entry["type"] for entry in view(ORDER_ID, facts)["events"]] == ["OrderCreated", "PaymentAuthorized"]


def test_a_letter_carries_the_id_of_the_event_in_it_and_still_counts(path: Path) -> None:
    tracking.track(created())
    tracking.track(event("payments.dlq", order(), key=ORDER_ID.encode(), letter=letter("exhausted")))
    assert status(path) == "FAILED"


def test_a_payment_outranks_a_letter_whichever_comes_first(path: Path) -> None:
    tracking.track(event("payments.dlq", order(), letter=letter("exhausted")))
    tracking.track(paid(150.00))
    tracking.track(event("payments.dlq", order(), offset=1, letter=letter("exhausted", offset=1)))
    assert status(path) == "PAYMENT_REJECTED"


@pytest.mark.parametrize(
    "value",
    [
        {"raw": b"\xff\x00 garbage"},
        {"raw": b"[" * 100_000},
        {"raw": b'{"amount": NaN}'},
        {"raw": b"x" * 900_000},
        {"value": None},
        {"value": 5},
        {"value": ["orderId"]},
        {"value": {"userId": "no order id"}},
        {"value": {"orderId": None}},
        {"value": {"orderId": 5}},
        {"value": {"orderId": ""}},
        {"value": {"orderId": {"a": "b"}}},
        {"value": {"orderId": "x" * 100_000}},
    ],
)
def test_a_letter_without_an_order_id_belongs_to_its_key(path: Path, value: dict[str, Any]) -> None:
    given = {"value": None, **value}
    tracking.track(event("orders.dlq", given.pop("value"), key=b"the-key", letter=letter("decode"), **given))
    assert status(path, "the-key") == "FAILED"


@pytest.mark.parametrize("key", [None, b"", b"x" * 1000])
def test_a_letter_of_no_order_is_passed_over(path: Path, key: bytes | None) -> None:
    tracking.track(event("orders.dlq", None, raw=b"garbage", key=key, letter=letter("decode")))
    store = Store(path)
    assert store.latest(10) == {}
    store.close()


def test_a_letter_with_a_binary_key(path: Path) -> None:
    tracking.track(event("orders.dlq", None, raw=b"garbage", key=b"\xff\x00", letter=letter("decode")))
    assert status(path, "\\xff\x00") == "FAILED"


def test_a_letter_without_headers(path: Path) -> None:
    tracking.track(event("orders.dlq", order()))
    assert view(ORDER_ID, known(path))["details"]["failureReason"] == "unknown"


def test_a_tombstone_is_passed_over(path: Path) -> None:
    tracking.track(event("orders.created", None, key=ORDER_ID.encode()))
    assert status(path) is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-15T12:30:00+02:00", "2026-01-15T10:30:00.000Z"),
        ("2026-01-15t10:30:00.5z", "2026-01-15T10:30:00.500Z"),
        ("2016-12-31T23:59:60Z", "2026-01-15T10:30:00.000Z"),  # a leap second: the record's time instead
        ("0001-01-01T00:00:00+23:59", "2026-01-15T10:30:00.000Z"),
    ],
)
def test_times_are_compared_in_utc(path: Path, text: str, at: str) -> None:
    tracking.track(created(createdAt=text))
    (fact,) = known(path)
    assert fact.at == at
    assert fact.body["createdAt"] == text


@pytest.mark.parametrize(("amount", "text"), [(99.99, "99.99"), (150.00, "150.0"), (100, "100"), (0.1 + 0.2, None)])
def test_amounts_are_stored_as_they_were_written(path: Path, amount: float, text: str | None) -> None:
    tracking.track(created(amount=amount))
    assert known(path)[0].body["amount"] == (text or "0.30000000000000004")


def test_a_disk_that_fails_is_no_ones_fault(path: Path) -> None:
    class Full:
        def add(self, fact: Fact) -> bool:
            raise sqlite3.OperationalError("database or disk is full")

    original = tracking._store
    tracking._store = lambda path: Full()  # type: ignore[assignment]
    try:
        with pytest.raises(Unavailable, match="disk is full"):
            tracking.track(created())
    finally:
        tracking._store = original


ARRIVALS = [
    created(),
    paid(),
    event("payments.dlq", order(), key=ORDER_ID.encode(), letter=letter("exhausted")),
    event("orders.dlq", None, raw=b"garbage", key=ORDER_ID.encode(), letter=letter("decode", offset=7)),
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(ARRIVALS), max_size=8), st.randoms(use_true_random=False))
def test_any_arrival_ends_the_same(tmp_path: Path, again: list[Event], chance: random.Random) -> None:
    store = Store(tmp_path / f"{chance.random()}.db")
    arrivals = [*ARRIVALS, *again]
    chance.shuffle(arrivals)
    for arrived in arrivals:
        fact = tracking._order_event(arrived) if arrived.topic in tracking._TYPES else tracking._letter(arrived)
        assert fact is not None
        store.add(fact)
    shown = view(ORDER_ID, store.facts(ORDER_ID))
    store.close()
    assert shown["status"] == "PAYMENT_AUTHORIZED"
    assert sorted(entry["type"] for entry in shown["events"]) == [
        "DeadLettered",
        "DeadLettered",
        "OrderCreated",
        "PaymentAuthorized",
    ]


def write_many(path: Path, first: int, count: int) -> None:
    store = Store(path)
    for number in range(first, first + count):
        store.add(Fact(f"e{number}", f"o{number}", ORDER_CREATED, f"2026-01-15T10:30:00.{number % 1000:03}Z"))
    store.close()


def test_processes_open_write_and_read_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tracking.db"
    context = multiprocessing.get_context("spawn")
    # The second and third write the same facts.
    writers = [context.Process(target=write_many, args=(path, first, 300)) for first in (0, 300, 300)]
    for writer in writers:
        writer.start()
    reader = Store(path)
    while any(writer.is_alive() for writer in writers):
        assert len(reader.latest(10)) <= 10
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(reader.latest(10_000)) == 600
    reader.close()


def test_the_latest_come_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "tracking.db")
    for number, moment in enumerate((3, 1, 2)):
        store.add(Fact(f"e{number}", f"o{number}", ORDER_CREATED, f"2026-01-15T10:30:0{moment}.000Z"))
    store.add(Fact("late", "o1", ORDER_CREATED, "2026-01-15T10:30:09.000Z"))
    assert list(store.latest(10)) == ["o1", "o0", "o2"]
    assert [len(facts) for facts in store.latest(10).values()] == [2, 1, 1]
    assert list(store.latest(1)) == ["o1"]
    store.close()
