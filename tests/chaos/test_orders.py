"""Orders through `payments` while workers are killed with -9 at random."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from uuid import uuid5

import pytest

from handlers.payments import _IDS
from orchestrator.records import Outgoing
from tests.support.example import Example, kill_now
from tests.support.worker import until

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(600)]

ORDERS = int(os.environ.get("KPIPE_CHAOS_ORDERS", "20000"))
SEED = int(os.environ.get("KPIPE_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
#: Orders of one user share a key in this test, so that order per key can be seen: so many keys.
KEYS = 500
STATUSES = ("AUTHORIZED", "REJECTED")


def order(n: int) -> dict[str, object]:
    return {
        "eventId": f"00000000-0000-4000-8000-{n:012d}",
        "orderId": f"10000000-0000-4000-8000-{n % KEYS:012d}",
        "userId": f"user-{n % KEYS}",
        "amount": 99.99 if n % 3 else 150.0,
        "items": [str(n)],
        "status": "CREATED",
        "createdAt": "2026-01-01T00:00:00Z",
    }


def test_every_order_has_one_outcome_in_order_while_workers_die(tmp_path: Path, kafka: str) -> None:
    print(f"seed {SEED}, {ORDERS} orders")
    chance = random.Random(SEED)
    example = Example(tmp_path, kafka, payments={"replicas": 2})
    with example.up():
        kills = feed_and_kill(example, chance)
        until("every order settled", lambda: settled(example), 180)
        check(example)
    print(f"{kills} kills")


def feed_and_kill(example: Example, chance: random.Random) -> int:
    """Send all orders in slices; between them kill a worker now and then."""
    kills = 0
    name = example.name("orders.created")
    for start in range(0, ORDERS, 1000):
        values = [order(n) for n in range(start, min(start + 1000, ORDERS))]
        example.produce([Outgoing(name, str(v["orderId"]).encode(), json.dumps(v).encode()) for v in values])
        if start % 3000 == 0:
            victims = example.pid(chance.choice(["payments", "payments", "tracking"]))
            if victims:
                kill_now(chance.choice(victims))
                kills += 1
        time.sleep(chance.random() * 0.5)  # the pace of the feed, not a wait for a state
    assert kills >= 3
    return kills


def settled(example: Example) -> bool:
    outcomes = example.read("payments.authorized") + example.read("payments.rejected")
    ids = {r.key and json.loads(r.value or b"")["eventId"] for r in outcomes}
    return len(ids) >= ORDERS and example.read_model("SELECT count(*) FROM facts")[0][0] >= 2 * ORDERS


def check(example: Example) -> None:
    counts = Counter(dict(example.read_model("SELECT type, count(*) FROM facts GROUP BY type")))
    rejected = sum(1 for n in range(ORDERS) if n % 3 == 0)
    assert counts == {
        "OrderCreated": ORDERS, "PaymentRejected": rejected, "PaymentAuthorized": ORDERS - rejected,
    }, "none lost, none twice"  # fmt: skip
    assert example.read("orders.dlq") == [] and example.read("payments.dlq") == []
    for topic in ("payments.authorized", "payments.rejected"):
        assert_in_order(example, topic)


def assert_in_order(example: Example, topic: str) -> None:
    """Per key, after removing repeats, outcomes stand in the order of the orders that caused them."""
    causes = {str(order(n)["eventId"]): n for n in range(ORDERS)}
    of_outcome = {str(uuid5(_IDS, f"{cause}/{status}")): n for cause, n in causes.items() for status in STATUSES}
    seen: dict[bytes | None, dict[int, None]] = {}
    for record in example.read(topic):
        n = of_outcome[json.loads(record.value or b"")["eventId"]]
        seen.setdefault(record.key, {})[n] = None
    for key, numbers in seen.items():
        assert list(numbers) == sorted(numbers), f"{topic} {key!r} out of order"
