"""Reading topics: the last records of each, all from a position on, or those to come. No group notices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerError
from orchestrator.operations.records.filters import Filter
from orchestrator.operations.records.progress import Scan, TimeIsUp, Watcher

if TYPE_CHECKING:
    from orchestrator.config.model import Topic
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.loading import Project
    from orchestrator.operations.records.positions import Position
    from orchestrator.records import Record, TopicPartition

DEFAULT_COUNT = 10
#: Seconds between two checks, while topics are followed, whether they are still the same.
_ASK_SECONDS = 1.0
_ALL = Filter()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Which records are read.

    `position` is where to start; without it the last `last` records of each topic are read. `follow` then goes on with
    new records and never ends by itself. `partitions` are all when empty. Only records that pass `filter` count.
    Reading ends after `limit` records, or after `timeout` seconds.
    """

    last: int = DEFAULT_COUNT
    position: Position | None = None
    follow: bool = False
    partitions: frozenset[int] = frozenset()
    filter: Filter = _ALL
    limit: int | None = None
    timeout: float | None = None

    def wants(self, names: Mapping[str, str]) -> Callable[[Record], bool] | None:
        """The test of a record, None when all are wanted.

        A start past the end is brought back to the end: what comes before it is not wanted.
        """
        wanted, position = self.filter.on(names), self.position
        if position is not None and position.kind == "offset":
            return lambda record: record.offset >= position.number and wanted(record)
        return wanted if self.filter.given else None


class TopicReading:
    """Topics that are about to be read. `names` are the file's names of the topics by the cluster's."""

    def __init__(
        self, project: Project, reader: Reader, topics: Sequence[str], options: ReadOptions, watcher: Watcher
    ) -> None:
        """Looks the topics up. Raises UsageError for a topic or a partition that there is not, and BrokerError."""
        from orchestrator.operations.topic_names import find_topic

        self._reader = reader
        self._options = options
        self._watcher = watcher
        targets = [find_topic(project.pipeline, name, reader.topics) for name in dict.fromkeys(topics)]
        self.names: Mapping[str, str] = {topic.kafka_name: topic.name for topic in targets}
        self._logs = [_partitions(reader, topic, options.partitions) for topic in targets]
        self._scan = Scan(reader, watcher, options.timeout)
        self._same = _same(project, list(self.names)) if options.follow else lambda: None

    @property
    def scanned(self) -> int:
        """How many records were looked at so far, whether they passed the filter or not."""
        return self._scan.scanned

    def batches(self) -> Iterator[list[Record]]:
        """The records in batches, none of them empty: topic by topic merged by time where the end is known, else in
        the order in which they come.

        Raises BrokerError, also when a topic that is followed was deleted and made anew.
        """
        left = self._options.limit
        try:
            for batch in self._records():
                records = list(islice(batch, left))
                if records:
                    yield records
                left = None if left is None else left - len(records)
                if left == 0:
                    return
        except TimeIsUp:
            return

    def _records(self) -> Iterator[Iterable[Record]]:
        from orchestrator.operations.records.latest import latest, newest
        from orchestrator.operations.records.positions import starts

        options = self._options
        every = [tp for log in self._logs for tp in log]
        begins, ends = self._reader.beginnings(every), self._reader.ends(every)
        wants = options.wants(self.names)
        if options.position is None:
            lasts = [
                latest(self._scan, {tp: begins[tp] for tp in log}, ends, options.last, wants) for log in self._logs
            ]
            yield newest(lasts, sum(map(len, lasts)))
            at = ends
        else:
            at = starts(options.position, self._reader, begins, ends)
        if options.follow:
            yield from self._streamed(self._scan.read(at), wants)
        elif options.position is not None:
            yield from self._streamed(self._scan.read(at, ends), wants)

    def _streamed(
        self, batches: Iterator[list[Record]], wants: Callable[[Record], bool] | None
    ) -> Iterator[Iterable[Record]]:
        """Those of the batches' records that are wanted."""
        away = False
        self._watcher.waiting()
        for batch in batches:
            self._same()
            yield batch if wants is None else filter(wants, batch)
            if not batch:
                self._watcher.waiting()
            if self._scan.away and not away:
                self._watcher.away()
            away = self._scan.away


@contextmanager
def reading(
    project: Project, topics: Sequence[str], options: ReadOptions | None = None, watcher: Watcher | None = None
) -> Iterator[TopicReading]:
    """The topics of these names, of the file or of the cluster, ready to be read with one connection.

    Raises UsageError for a topic or a partition that there is not, BrokerError.
    """
    with project.reader() as reader:
        yield TopicReading(project, reader, topics, options or ReadOptions(), watcher or Watcher())


def last_records(
    project: Project, topic: str, count: int = DEFAULT_COUNT, filter: Filter | None = None
) -> list[Record]:
    """The last `count` records of a topic that pass `filter`, oldest first. Raises as `reading` does."""
    with reading(project, [topic], ReadOptions(last=count, filter=filter or _ALL)) as topics:
        return [record for batch in topics.batches() for record in batch]


def _partitions(reader: Reader, topic: Topic, wanted: frozenset[int]) -> list[TopicPartition]:
    from orchestrator.operations.topic_names import check_partitions, not_created
    from orchestrator.records import TopicPartition

    count = reader.partitions(topic.kafka_name)
    if not count:
        raise not_created(topic)
    check_partitions(topic, count, wanted)
    return [TopicPartition(topic.kafka_name, number) for number in sorted(wanted or range(count))]


def _same(project: Project, topics: list[str]) -> Callable[[], None]:
    """What raises BrokerError once one of the topics was deleted and made anew: a reader would go on at old offsets."""
    from orchestrator.delivery.offsets.start import is_remade

    asked = project.clients.topic_ids()
    first = asked.of(topics)
    due = 0.0

    def same() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + _ASK_SECONDS
            asked.ask(topics)
        for name, identity in (asked.answer() or {}).items():
            if is_remade(identity.topic_id, first[name].topic_id if name in first else ""):
                raise BrokerError(f"{name} was deleted and made anew", "the same command follows the new topic")

    return same
