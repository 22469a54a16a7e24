"""Whether a worker's topics are still those that it began with. DESIGN section 5, "Identity".

A topic that is deleted and made anew keeps its name, and librdkafka goes on as if nothing had happened: a consumer at
its old offset, and both clients with the old leader epochs, so that they may never find a new leader (librdkafka 2.16,
rd_kafka_toppar_leader_update ignores a lower epoch). So a worker lives with one set of topic ids. When one changes it
commits where the new topic starts, and ends; its successor has clients that know nothing of the former topic.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from orchestrator.delivery.offsets.arrivals import mark_of
from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.offsets.start import is_remade, remade
from orchestrator.delivery.partition import Partition
from orchestrator.errors import BrokerError
from orchestrator.kafka.admin.topic_ids import TopicIdentity
from orchestrator.kafka.reader import Reader
from orchestrator.records import TopicPartition

log = logging.getLogger("kpipe.worker")

#: Seconds between two questions about the topics' ids, and for finding out what of new topics ran already.
ASK_SECONDS = 1.0
RECOUNT_SECONDS = 10.0


class TopicIdSource(Protocol):
    """Questions to the cluster about topic ids (`kafka.topic_ids.TopicIds`)."""

    def of(self, names: Sequence[str], /) -> dict[str, TopicIdentity]: ...

    def ask(self, names: Sequence[str], /) -> None: ...

    def answer(self) -> dict[str, TopicIdentity] | None: ...


class TopicIdentities:
    """The ids of the topics `names`, as they were when each was seen first, and as they are now.

    For the thread that polls. Without `ids` nothing is known of any topic.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        ids: TopicIdSource | None = None,
        reader: Callable[[], Reader] | None = None,
        parting: Callable[[TopicPartition, int, int, int], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reader` connects to read a log again. `parting(tp, low, high, epoch)` is `kafka.epochs.first_above`."""
        self._names = list(names)
        self._ids = ids
        self._reader = reader
        self._parting = parting
        self._clock = clock
        self._due = 0.0
        #: A question is out whose answer counts.
        self._asking = False
        self._first: dict[str, str] = {}
        self._now: dict[str, str] = {}

    def id_of(self, topic: str) -> str:
        """The topic's id as the cluster told it last; "" when it is not known."""
        return self._now.get(topic, "")

    def first_id_of(self, topic: str) -> str:
        """The id that the topic had when this worker saw it first; "" when it is not known."""
        return self._first.get(topic, "")

    def remade(self) -> list[str]:
        """The topics that were made anew since this worker saw them first."""
        return [topic for topic, now in self._now.items() if is_remade(now, self._first[topic])]

    def look(self) -> bool:
        """Ask now, and wait for the answer; without one (False) what was known stays.

        The answer to a question that is out is older, and counts no more.
        """
        if self._ids is None:
            return True
        self._asking = False
        try:
            self._note(self._ids.of(self._names))
        except BrokerError as e:
            log.warning("the cluster did not answer which topics these are: %s", e.message)
            return False
        return True

    def ask_in_time(self) -> bool:
        """Ask once a second, without waiting; whether that was done now.

        Not while a question is out: a second one would give that up, and an answer that takes longer than a second
        would never be heard.
        """
        now = self._clock()
        if self._ids is None or self._asking or now < self._due:
            return False
        self._due = now + ASK_SECONDS
        self._asking = True
        self._ids.ask(self._names)
        return True

    def answered(self) -> frozenset[str] | None:
        """The topics that the answer to the question is about, once; None while there is none."""
        answer = self._ids.answer() if self._ids is not None and self._asking else None
        if answer is None:
            return None
        self._asking = False
        self._note(answer)
        return frozenset(answer)

    def recount(self, parts: Sequence[Partition]) -> dict[TopicPartition, Checkpoint]:
        """Where the new topics start in place of `parts`, whose epochs are over, and what of them ran already.

        A partition is left out when that cannot be found out within `RECOUNT_SECONDS` in all, or when the new topic
        does not have it: a successor starts it at the beginning.
        """
        recounted: dict[TopicPartition, Checkpoint] = {}
        if not parts or self._reader is None:
            return recounted
        deadline = self._clock() + RECOUNT_SECONDS
        try:
            with self._reader() as reader:
                counts = reader.there({part.tp.topic for part in parts})
                there = [part for part in parts if part.tp.partition < counts.get(part.tp.topic, 0)]
                tps = [part.tp for part in there]
                lows, highs = reader.beginnings(tps), reader.ends(tps)
                for part in there:
                    if self._clock() > deadline:
                        break
                    first = _ran_from(reader, part, lows[part.tp], highs[part.tp])
                    settled = () if first is None else part.settled_from(first)
                    topic, topic_id = part.tp.topic, self.id_of(part.tp.topic)
                    recounted[part.tp] = remade(part.checkpoint(), topic, topic_id, lows[part.tp], settled)
        except BrokerError as e:
            log.warning("the log of a topic that was made anew was not read: %s", e.message)
        return recounted

    def parted(self, tp: TopicPartition, low: int, high: int, epoch: int) -> int | None:
        """Where the log has other records than those up to leader epoch `epoch`; None when that is not known."""
        if self._parting is None or epoch < 0:
            return None
        try:
            return self._parting(tp, low, high, epoch)
        except BrokerError as e:
            log.warning("%s[%d]: where its log was cut is not known: %s", *tp, e.message)
            return None

    def _note(self, answer: dict[str, TopicIdentity]) -> None:
        for topic, identity in answer.items():
            if identity.topic_id:
                self._first.setdefault(topic, identity.topic_id)
                self._now[topic] = identity.topic_id


def _ran_from(reader: Reader, part: Partition, low: int, high: int) -> int | None:
    """The first offset of the new log whose record arrived here under the former topic's epoch."""
    first = part.arrivals.first
    if first is None or first >= high:
        return None
    starts, stops = {part.tp: max(low, first)}, {part.tp: min(part.received, high)}
    return part.arrivals.part({r.offset: mark_of(r) for records in reader.read(starts, stops) for r in records})
