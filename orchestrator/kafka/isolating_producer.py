"""A producer that lets no record pay for its neighbours: what is too large in a batch is sent again by itself.

A broker that finds a batch too large refuses every record in it. `batch.size` keeps batches below the limit that the
file gives for a topic; somebody else may have lowered it on the cluster. A record that is sent again comes after those
that were sent behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.kafka.producer import OnDelivery, Producer, SendFailure
from orchestrator.records import Outgoing


class IsolatingProducer(Producer):
    """Used like `Producer`; it is `send` that isolates."""

    def __init__(self, properties: Mapping[str, Any], denser: Mapping[str, Any] = {}) -> None:
        """With the properties `denser` a record takes less room where it is sent again."""
        super().__init__(properties)
        self._properties = {**properties, **denser, "batch.num.messages": "1"}
        #: Its batches have one record each; made when the first record is refused.
        self._single: Producer | None = None

    def send(
        self,
        out: Outgoing,
        on_delivery: OnDelivery | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        if on_delivery is None:
            super().send(out, None, should_stop)
            return

        def report(failure: SendFailure | None, partition: int, offset: int) -> None:
            if failure is not None and failure.too_large:
                self._alone().send(out, on_delivery, should_stop)
            else:
                on_delivery(failure, partition, offset)

        super().send(out, report, should_stop)

    def poll(self, timeout: float = 0) -> None:
        super().poll(timeout)
        if self._single is not None:
            self._single.poll(0)
            self.fatal = self.fatal or self._single.fatal

    def flush(self, timeout: float) -> int:
        left = super().flush(timeout)
        return left if self._single is None else left + self._single.flush(timeout)

    def close(self, timeout: float) -> int:
        left = super().close(timeout)
        if self._single is not None:
            self._single.close(0)
        return left

    def _alone(self) -> Producer:
        if self._single is None:
            self._single = Producer(self._properties)
        return self._single
