"""What events caused, until it is sent: many records one after the other cost less than each by itself."""

from __future__ import annotations

import random

from orchestrator.delivery.headers.lineage import stamp, stamper
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.produce.barrier import Post

#: Topic, key and value; the event that caused it, and its index in the batch.
Put = tuple[tuple[str, str | None, bytes], Record, int]


class SendBuffer:
    """Records that the first runs of one partition's events cause, in order."""

    def __init__(self, post: Post, group: str, tp: TopicPartition) -> None:
        """`group` is the handler's: their headers tell who caused them."""
        self._post = post
        self._group = group
        self._headers = stamper(group, tp.topic, tp.partition, random.getrandbits(64))
        self._puts: list[Put] = []
        self.put = self._puts.append

    def empty(self) -> None:
        """Send all that is here."""
        post, headers = self._post, self._headers
        for (topic, key, value), record, index in self._puts:
            _, _, offset, timestamp, _, _, own = record
            if own:
                post(topic, key, value, list(stamp(self._group, record, 1, random.getrandbits(64))), index)
            else:
                post(topic, key, value, headers(timestamp, offset), index)
        self._puts.clear()
