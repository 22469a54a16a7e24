"""Acknowledgements: shown in the order of sending, and every one of them waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from orchestrator.cli import receipts
from orchestrator.cli.receipts import deliver
from orchestrator.errors import BrokerError
from orchestrator.kafka.producer import OnDelivery, Producer, SendFailure
from orchestrator.records import Outgoing, Record


class Broker:
    """A producer whose reports come when the test's `answer` says so, at the next poll."""

    def __init__(self, answer: Callable[[list[OnDelivery]], None]) -> None:
        self.waiting: list[OnDelivery] = []
        self.most = 0
        self._answer = answer

    def send(self, out: Outgoing, on_delivery: OnDelivery, should_stop: Any) -> None:
        self.waiting.append(on_delivery)
        self.most = max(self.most, len(self.waiting))

    def poll(self, timeout: float) -> None:
        self._answer(self.waiting)


def outs(count: int) -> list[Outgoing]:
    return [Outgoing("t", b"%d" % number, b"{}", timestamp=7) for number in range(count)]


def run(broker: Broker, count: int) -> list[Record]:
    shown: list[Record] = []
    deliver(cast("Producer", broker), outs(count), shown.append)
    return shown


def last_first(waiting: list[OnDelivery]) -> None:
    if waiting:
        waiting.pop()(None, 2, 40 + len(waiting))


def test_they_are_shown_in_the_order_of_sending() -> None:
    shown = run(Broker(last_first), 50)
    assert [record.key for record in shown] == [b"%d" % number for number in range(50)]
    assert shown[0] == Record("t", 2, shown[0].offset, 7, b"0", b"{}", ())


def test_only_so_many_are_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "_WINDOW", 10)
    turns = iter(range(10**6))

    def now_and_then(waiting: list[OnDelivery]) -> None:
        if next(turns) % 3 == 0:
            last_first(waiting)

    broker = Broker(now_and_then)
    assert len(run(broker, 100)) == 100
    assert broker.most <= 11


def test_a_refused_event_is_an_error_and_the_others_are_shown() -> None:
    def second_is_too_large(waiting: list[OnDelivery]) -> None:
        if len(waiting) == 3:
            waiting[1](SendFailure("MSG_SIZE_TOO_LARGE", "Message size too large", permanent=True), -1, -1)
            waiting[0](None, 0, 1)
            waiting[2](None, 0, 2)
            waiting.clear()

    shown: list[Record] = []
    with pytest.raises(BrokerError, match=r"refused 1 of 3 events: Message size too large \(MSG_SIZE"):
        deliver(cast("Producer", Broker(second_is_too_large)), outs(3), shown.append)
    assert [record.key for record in shown] == [b"0", b"2"]


def test_silence_is_an_error_that_counts_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "PATIENCE", 0.05)

    def first_only(waiting: list[OnDelivery]) -> None:
        if len(waiting) == 3:
            waiting.pop(0)(None, 0, 1)

    shown: list[Record] = []
    with pytest.raises(BrokerError, match="did not acknowledge 2 of 3 events") as caught:
        deliver(cast("Producer", Broker(first_only)), outs(3), shown.append)
    assert "written or not" in caught.value.hint
    assert [record.key for record in shown] == [b"0"]
