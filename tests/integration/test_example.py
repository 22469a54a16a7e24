"""The example end to end: `kpipe up`, real HTTP, real Kafka, real processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.records import Outgoing
from tests.support.example import Example, left_of
from tests.support.worker import until

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Example]:
    one = Example(tmp_path_factory.mktemp("example"), kafka)
    with one.up():
        yield one


def status_of(example: Example, order_id: str, wanted: str) -> dict[str, object]:
    found = until(f"{order_id} is {wanted}", lambda: (s := example.status(order_id)).get("status") == wanted and s, 20)
    return dict(found)


@pytest.mark.parametrize(
    ("amount", "status", "kind"),
    [(99.99, "PAYMENT_AUTHORIZED", "PaymentAuthorized"), (150.00, "PAYMENT_REJECTED", "PaymentRejected")],
)
def test_an_order_over_http(example: Example, amount: float, status: str, kind: str) -> None:
    answer = example.order(amount=amount)
    assert answer.status_code == 201
    said = answer.json()
    assert {**said, "orderId": "", "eventId": ""} == {
        "orderId": "", "eventId": "", "status": "created", "message": "Order created successfully",
    }  # fmt: skip
    found = status_of(example, said["orderId"], status)
    assert [e["type"] for e in found["events"]] == ["OrderCreated", kind]  # type: ignore[attr-defined]
    details = found["details"]
    assert isinstance(details, dict)
    assert (details["userId"], details["amount"], details["items"]) == ("user-123", amount, ["laptop", "mouse"])
    assert details["paymentStatus"] == status.removeprefix("PAYMENT_")
    if status == "PAYMENT_REJECTED":
        assert details["rejectionReason"] == "Insufficient funds"


def test_a_bad_order_is_refused_with_every_violation(example: Example) -> None:
    answer = example.order(amount="ten", items=[])
    assert answer.status_code == 400
    assert "$.amount" in answer.text and "$.items" in answer.text
    for body in (b"{", b'{"amount": NaN}', b"[" * 5000, b'{"a": Infinity}', b"\xff"):
        url = f"http://127.0.0.1:{example.orders}/orders"
        assert httpx.post(url, content=body, headers={"content-type": "application/json"}).status_code == 400, body
    large = httpx.post(url, content=b'"' + b"x" * 1_100_000 + b'"', headers={"content-type": "application/json"})
    assert large.status_code == 413


def test_what_is_unknown_is_404_and_health_answers(example: Example) -> None:
    base = f"http://127.0.0.1:{example.tracking}"
    assert httpx.get(f"{base}/orders/nothing/status").status_code == 404
    assert httpx.get(f"{base}/").status_code == 200
    assert httpx.get(f"{base}/orders").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{example.orders}/").status_code == 200


def test_send_order_does_the_same_through_kafka(example: Example) -> None:
    for _ in range(2):
        done = example.kpipe("--json", "send", "order")
        assert done.code == 0, done.err
        status_of(example, json.loads(done.out)["key"], "PAYMENT_AUTHORIZED")


def test_a_broken_event_is_refused_and_without_validation_ends_in_the_dlq_once(example: Example) -> None:
    refused = example.kpipe("send", "order", '{"amount": "ten"}')
    assert refused.code == 2 and "$.amount" in refused.err and refused.out == ""
    sent = example.kpipe("--json", "send", "order", "--no-validate", '{"amount": "ten"}')
    assert sent.code == 0, sent.err
    order_id = json.loads(sent.out)["key"]
    status_of(example, order_id, "FAILED")
    letters = [r for r in example.read("orders.dlq") if r.key == order_id.encode()]
    assert len(letters) == 1
    shown = example.kpipe("tail", "orders.dlq", "-k", order_id, "-n", "1")
    assert shown.code == 0
    assert "schema" in shown.out and "$.amount" in shown.out and "payments" in shown.out


def test_garbage_from_any_client_is_dead_lettered_once_and_the_flow_goes_on(example: Example) -> None:
    name = example.name("orders.created")
    garbage = [
        Outgoing(name, b"g1", os.urandom(200)),
        Outgoing(name, b"g2", b"[" * 50_000 + b"]" * 50_000),
        Outgoing(name, b"g3", b'{"amount": NaN}'),
        Outgoing(name, b"g4", b'{"x": "' + b"y" * 900_000 + b'"}'),
        Outgoing(name, None, b"null key"),
        Outgoing(name, b"\xff\x00\xfe", b"binary key", (("h\xe9", b"\x00"),)),
    ]
    before = {r.offset: r for r in example.read("orders.dlq")}
    example.produce(garbage)
    order = example.order().json()["orderId"]
    status_of(example, order, "PAYMENT_AUTHORIZED")
    values = {g.value for g in garbage}

    def arrived() -> list[object]:
        return [r for r in example.read("orders.dlq") if r.value in values]

    until("all garbage in the DLQ", lambda: len(arrived()) >= len(garbage))
    found = [r for r in example.read("orders.dlq") if r.value in values]
    assert sorted((r.key or b"", r.value or b"") for r in found) == sorted(
        (g.key or b"", g.value or b"") for g in garbage
    )
    assert {letter.reason for r in found if (letter := read_letter(r.headers))} == {"decode", "schema"}
    assert all((("h\xe9", b"\x00") in r.headers) == (r.value == b"binary key") for r in found)
    assert before is not None


def test_ps_counts_every_event(example: Example) -> None:
    def settled() -> bool:
        return all(h["accounting"]["in_flight"] == 0 for h in example.ps().values() if h["accounting"])

    until("nothing in flight", settled)
    for handler in example.ps().values():
        if numbers := handler["accounting"]:
            assert numbers["in"] == numbers["done"] + numbers["dead_lettered"] + numbers["skipped"], handler
            assert handler["lag"] == 0


def test_kill_9_of_the_supervisor_leaves_nothing_and_a_new_up_goes_on(tmp_path: Path, kafka: str) -> None:
    example = Example(tmp_path, kafka)
    with example.up() as up:
        children = [p.pid for p in psutil.Process(up.pid).children(recursive=True)]
        assert len(children) >= 4
        first = example.order().json()["orderId"]
        status_of(example, first, "PAYMENT_AUTHORIZED")
        up.kill()
        up.wait(5)
        assert left_of(children, 2.0) == []
    with example.up() as up:
        second = example.order().json()["orderId"]
        status_of(example, second, "PAYMENT_AUTHORIZED")
        assert example.status(first)["status"] == "PAYMENT_AUTHORIZED"
        up.send_signal(signal.SIGINT)
        assert up.wait(40) in (0, 130)
    assert "Traceback" not in example.log
    assert "in flight 0" in example.log
    assert "in 0 = done 0" not in example.log
