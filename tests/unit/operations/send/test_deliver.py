"""Acknowledgements: shown in the order of sending, and every one of them waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError

from orchestrator.errors import BrokerError, KpipeError
from orchestrator.kafka.producer import OnDelivery, Producer, SendFailure
from orchestrator.operations.send import deliver as receipts
from orchestrator.operations.send.deliver import Pace, deliver
from orchestrator.records import Outgoing, Record


class Broker:
    """A producer whose reports come when the test's `answer` says so, at the next poll."""

    def __init__(self, answer: Callable[[list[OnDelivery]], None]) -> None:
        self.waiting: list[OnDelivery] = []
        self.fatal: KafkaError | None = None
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
    deliver(cast("Producer", broker), outs(count), shown.extend)
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
    assert broker.most <= 10 + receipts._BURST


def test_a_refused_event_is_an_error_and_the_others_are_shown() -> None:
    def second_is_too_large(waiting: list[OnDelivery]) -> None:
        if len(waiting) == 3:
            waiting[1](SendFailure("MSG_SIZE_TOO_LARGE", "Message size too large", permanent=True), -1, -1)
            waiting[0](None, 0, 1)
            waiting[2](None, 0, 2)
            waiting.clear()

    shown: list[Record] = []
    with pytest.raises(KpipeError, match=r"refused 1 of 3 events: Message size too large \(MSG_SIZE") as caught:
        deliver(cast("Producer", Broker(second_is_too_large)), outs(3), shown.extend, place=lambda n: f"line {n + 10}")
    assert [record.key for record in shown] == [b"0", b"2"]
    assert caught.value.exit_code == 1, "a part was done"
    assert "line 11: Message size too large" in caught.value.message


def test_when_all_are_refused_kafka_is_to_blame() -> None:
    def all_too_large(waiting: list[OnDelivery]) -> None:
        while waiting:
            waiting.pop()(SendFailure("MSG_SIZE_TOO_LARGE", "too large", permanent=True), -1, -1)

    with pytest.raises(BrokerError, match="refused 50 of 50 events"):
        run(Broker(all_too_large), 50)


def test_many_refused_ones_are_counted() -> None:
    def every_other(waiting: list[OnDelivery]) -> None:
        while waiting:
            at = len(waiting) % 2
            waiting.pop()(SendFailure("NO", "no", permanent=True) if at else None, 0, 0)

    broker = Broker(lambda waiting: every_other(waiting) if len(waiting) == 50 else None)
    with pytest.raises(KpipeError, match="refused 25 of 50") as caught:
        run(broker, 50)
    *listed, last = caught.value.message.splitlines()[1:]
    assert [line.split(":")[0].strip() for line in listed] == [f"event {number}" for number in range(1, 41, 2)]
    assert last.strip() == "… and 5 more"


@pytest.mark.parametrize("rate", [0.5, 10, 5_000, 1e6])
def test_a_pace_is_kept(rate: float) -> None:
    now = 100.0
    pace = Pace(rate, lambda: now)
    sent = 0
    while sent < 1_000:
        ahead = pace.ahead()
        if ahead <= 0:
            sent += 1
        else:
            now += ahead
    assert (now - 100) * rate == pytest.approx(1_000, rel=0.05, abs=2)


def test_after_standing_still_it_is_not_made_up_for_at_once() -> None:
    now = 0.0
    pace = Pace(100, lambda: now)
    assert pace.ahead() <= 0
    now = 60.0
    gone = 0
    while pace.ahead() <= 0:
        gone += 1
    assert 1 <= gone <= 12


def test_silence_is_an_error_that_counts_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "PATIENCE", 0.05)

    def first_only(waiting: list[OnDelivery]) -> None:
        if len(waiting) == 3:
            waiting.pop(0)(None, 0, 1)

    shown: list[Record] = []
    with pytest.raises(BrokerError, match="did not acknowledge 2 of 3 events") as caught:
        deliver(cast("Producer", Broker(first_only)), outs(3), shown.extend)
    assert "written or not" in caught.value.hint
    assert [record.key for record in shown] == [b"0"]


def test_what_was_acknowledged_behind_a_silent_one_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "PATIENCE", 0.05)

    def all_but_the_first(waiting: list[OnDelivery]) -> None:
        while len(waiting) == 3 or (len(waiting) == 2 and len(told) == 1):
            told.append(waiting.pop())
            told[-1](None, 0, 1)

    shown: list[Record] = []
    told: list[OnDelivery] = []
    with pytest.raises(BrokerError, match="did not acknowledge 1 of 3 events"):
        deliver(cast("Producer", Broker(all_but_the_first)), outs(3), shown.extend)
    assert [record.key for record in shown] == [b"1", b"2"]


def test_a_producer_that_is_finished_is_not_waited_for_and_names_the_permission() -> None:
    def refuse(waiting: list[OnDelivery]) -> None:
        waiting.pop(0)(None, 0, 1)
        broker.fatal = KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no id", True)

    broker = Broker(refuse)
    with pytest.raises(KpipeError, match="refused 2 of 3 events: Kafka does not allow this user: WRITE on the topic t"):
        run(broker, 3)
