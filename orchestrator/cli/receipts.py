"""Sending records and waiting until the broker has acknowledged every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerError
from orchestrator.records import Outgoing, Record

if TYPE_CHECKING:
    from orchestrator.kafka.producer import OnDelivery, Producer, SendFailure

#: Seconds without a single acknowledgement before the broker counts as away.
PATIENCE = 10.0
#: Records on their way at once: few enough that `Producer.send` finds room and need not wait for it.
_WINDOW = 1_000
_TICK = 0.1


class Receipts:
    """Shows every record once it is acknowledged, in the order of sending, and counts what was not."""

    def __init__(self, show: Callable[[Record], None]) -> None:
        self._show = show
        self._sent = 0
        self._shown = 0
        self._known: dict[int, Record | None] = {}
        self._heard = time.monotonic()
        self.failures: list[SendFailure] = []

    @property
    def sent(self) -> int:
        return self._sent

    @property
    def missing(self) -> int:
        """How many records have neither been acknowledged nor refused."""
        return self._sent - self._shown - len(self._known)

    def stalled(self) -> bool:
        return time.monotonic() - self._heard > PATIENCE

    def expect(self, out: Outgoing) -> OnDelivery:
        """The callback for the delivery report of `out`, the next record to be sent."""
        if not self.missing:
            self._heard = time.monotonic()  # nothing was waited for until now
        number = self._sent
        self._sent += 1

        def report(failure: SendFailure | None, partition: int, offset: int) -> None:
            self._heard = time.monotonic()
            if failure is None:
                timestamp = -1 if out.timestamp is None else out.timestamp
                record = Record(out.topic, partition, offset, timestamp, out.key, out.value, out.headers)
                self._known[number] = record
            elif not failure.purged:
                self.failures.append(failure)
                self._known[number] = None

        return report

    def show(self) -> None:
        """Show what is next in order and known. Not in the callback: printing may raise."""
        while self._shown in self._known:
            record = self._known.pop(self._shown)
            self._shown += 1
            if record is not None:
                self._show(record)


def deliver(producer: Producer, outs: Iterable[Outgoing], show: Callable[[Record], None]) -> None:
    """Send `outs` and return once all are acknowledged.

    Raises BrokerError when some were refused, or when nothing was acknowledged for `PATIENCE` seconds: those
    still on their way then may have been written or not.
    """
    receipts = Receipts(show)
    for out in outs:
        producer.send(out, receipts.expect(out), receipts.stalled)
        _wait(producer, receipts, _WINDOW)
        if receipts.stalled():
            break
    _wait(producer, receipts, 0)
    _judge(receipts)


def _wait(producer: Producer, receipts: Receipts, most: int) -> None:
    """Until at most this many records are still on their way, or nothing moves any more."""
    from orchestrator.kafka.interrupt import uninterrupted

    with uninterrupted():
        producer.poll(0)
    while receipts.missing > most and not receipts.stalled():
        with uninterrupted():
            producer.poll(_TICK)
    receipts.show()


def _judge(receipts: Receipts) -> None:
    if receipts.missing:
        raise BrokerError(
            f"Kafka did not acknowledge {receipts.missing} of {receipts.sent} events within {PATIENCE:g} s",
            "they may have been written or not; `kpipe tail` shows what is there",
        )
    if receipts.failures:
        first = receipts.failures[0]
        raise BrokerError(
            f"Kafka refused {len(receipts.failures)} of {receipts.sent} events: {first.message} ({first.code})"
        )
