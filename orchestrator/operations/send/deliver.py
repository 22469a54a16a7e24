"""Sending records and waiting until the broker has acknowledged every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerError, KpipeError
from orchestrator.records import Outgoing, Record

if TYPE_CHECKING:
    from orchestrator.kafka.producer import OnDelivery, Producer, SendFailure

#: Seconds without a single acknowledgement before the broker counts as away.
PATIENCE = 10.0
#: Records on their way at once: few enough that `Producer.send` finds room and need not wait for it.
_WINDOW = 1_000
_TICK = 0.1
#: Records between two looks at what was acknowledged: one costs about half as much as sending a record.
_BURST = 20
#: Seconds by which `Pace` lets events go early, and what it makes up for after it was held up.
_GRAIN = 0.005
_CATCH_UP = 0.1
#: How many refused events are listed.
_NAMED = 20


class DeliveryReports:
    """Shows every record once it is acknowledged, in the order of sending, and counts what was not.

    `show` gets all that can be shown by then.
    """

    def __init__(self, show: Callable[[Sequence[Record]], None]) -> None:
        self._show = show
        self._sent = 0
        self._shown = 0
        self._known: dict[int, Record | None] = {}
        self._heard = time.monotonic()
        self.topic = ""
        #: What was refused: the record's number in the order of sending, from 0, and why.
        self.failures: list[tuple[int, SendFailure]] = []

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
        self.topic = out.topic

        def report(failure: SendFailure | None, partition: int, offset: int) -> None:
            self._heard = time.monotonic()
            if failure is None:
                timestamp = -1 if out.timestamp is None else out.timestamp
                record = Record(out.topic, partition, offset, timestamp, out.key, out.value, out.headers)
                self._known[number] = record
            elif not failure.purged:
                self.failures.append((number, failure))
                self._known[number] = None

        return report

    def give_up(self, failure: SendFailure) -> None:
        """The producer is finished: no report comes for what is missing, and some of it may have been written."""
        for number in range(self._shown, self._sent):
            if number not in self._known:
                self._known[number] = None
                self.failures.append((number, failure))

    def show(self) -> None:
        """Show what is next in order and known. Not in the callback: printing may raise."""
        records = []
        while self._shown in self._known:
            record = self._known.pop(self._shown)
            self._shown += 1
            if record is not None:
                records.append(record)
        if records:
            self._show(records)

    def show_rest(self) -> None:
        """Show what was acknowledged behind a record that is still missing: it is in Kafka."""
        records = [record for _, record in sorted(self._known.items()) if record is not None]
        self._shown += len(self._known)
        self._known.clear()
        if records:
            self._show(records)


def deliver(
    producer: Producer,
    outs: Iterable[Outgoing],
    show: Callable[[Sequence[Record]], None],
    *,
    place: Callable[[int], str] = lambda number: f"event {number + 1}",
    rate: float | None = None,
) -> None:
    """Send `outs` and return once all are acknowledged.

    `rate` is in events per second, None for as fast as possible; `place` says where the event of a number comes from.
    Raises KpipeError when some were refused (BrokerError when all were), and BrokerError when nothing was acknowledged
    for `PATIENCE` seconds: those still on their way then may have been written or not.
    """
    receipts = DeliveryReports(show)
    pace = Pace(rate)
    for out in outs:
        while (ahead := pace.ahead()) > 0:
            _serve(producer, receipts, min(ahead, _TICK))
        producer.send(out, receipts.expect(out), receipts.stalled)
        if receipts.sent % _BURST == 0 or pace.slow:
            _wait(producer, receipts, _WINDOW)
        if receipts.stalled():
            break
    _wait(producer, receipts, 0)
    receipts.show_rest()
    _judge(receipts, place)


class Pace:
    """When the next of so many a second may go. A moment of standing still is caught up with, a longer one is not."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = 0.0 if rate is None else 1 / rate
        self._clock = clock
        self._due = clock()

    @property
    def slow(self) -> bool:
        """Whether a receipt would be late if it waited for others."""
        return self._step > _TICK / _BURST

    def ahead(self) -> float:
        """Seconds to wait; 0 or less when one may go, which then counts as gone."""
        now = self._clock()
        ahead = self._due - now
        # Waits shorter than this are not worth their system calls: a few go at once instead.
        if self._step and ahead > min(_GRAIN, self._step):
            return ahead
        self._due = max(self._due, now - _CATCH_UP) + self._step
        return 0.0


def _wait(producer: Producer, receipts: DeliveryReports, most: int) -> None:
    """Until at most this many records are still on their way, or nothing moves any more."""
    _serve(producer, receipts, 0)
    while receipts.missing > most and not receipts.stalled():
        _serve(producer, receipts, _TICK)


def _serve(producer: Producer, receipts: DeliveryReports, seconds: float) -> None:
    from orchestrator.kafka.interrupt import uninterrupted
    from orchestrator.kafka.producer import failure_of

    with uninterrupted():
        producer.poll(seconds)
    if producer.fatal is not None:
        receipts.give_up(failure_of(producer.fatal, receipts.topic))
    receipts.show()


def _judge(receipts: DeliveryReports, place: Callable[[int], str]) -> None:
    if receipts.missing:
        raise BrokerError(
            f"Kafka did not acknowledge {receipts.missing} of {receipts.sent} events within {PATIENCE:g} s",
            "they may have been written or not; `kpipe tail` shows what is there",
        )
    if receipts.failures:
        refused = sorted(receipts.failures, key=lambda failure: failure[0])
        reasons = [f"{failure.message} ({failure.code})" for _, failure in refused]
        message = f"Kafka refused {len(refused)} of {receipts.sent} events: {reasons[0]}"
        if len(refused) == receipts.sent:
            raise BrokerError(message)
        lines = [f"  {place(number)}: {why}" for (number, _), why in zip(refused[:_NAMED], reasons, strict=False)]
        if len(refused) > _NAMED:
            lines.append(f"  … and {len(refused) - _NAMED} more")
        raise KpipeError("\n".join([message, *lines]), "all the others were sent")
