"""The letters in dead letter queues, read one after the other from where the queues begin to where they end now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.records import TopicPartition

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline, Topic
    from orchestrator.event import Letter
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.records.where import Where
    from orchestrator.records import Record

#: Gets how many records were read so far; called for each batch.
Progress = Callable[[int], None]


def find_dlqs(pipeline: Pipeline, names: Sequence[str], reader: Reader) -> list[Topic]:
    """The DLQs of these names, of the file or of any topic on the cluster; all of the file's without names.

    Raises UsageError for a name that nothing has, BrokerError for a DLQ that was asked for and is not there. Without
    names one that is not there yet has no letters.
    """
    from orchestrator.operations.topic_names import find_topic, not_created

    if not names:
        dlqs = [topic for topic in pipeline.topics.values() if topic.is_dlq]
        found = reader.there(topic.kafka_name for topic in dlqs)
        return [topic for topic in dlqs if topic.kafka_name in found]
    there = reader.topics()
    wanted = [find_topic(pipeline, name, lambda: there) for name in dict.fromkeys(names)]
    for topic in wanted:
        if not reader.there([topic.kafka_name]):
            raise not_created(topic)
    return wanted


class Letterbox:
    """Some DLQs, from their oldest letter to the last one that was there when this was made.

    `foreign` counts the records that are no letters of kpipe, `seen` all records, in the last `read`.
    """

    def __init__(self, reader: Reader, dlqs: Sequence[Topic], progress: Progress | None = None) -> None:
        self._reader = reader
        self.names: Mapping[str, str] = {dlq.kafka_name: dlq.name for dlq in dlqs}
        tps = [TopicPartition(name, n) for name in self.names for n in range(reader.partitions(name))]
        self.begins = reader.beginnings(tps)
        self.ends = reader.ends(tps)
        self.foreign = 0
        self.seen = 0
        self._progress = progress or (lambda _records: None)

    def read(
        self, where: Where | None = None, meanwhile: Callable[[], None] | None = None
    ) -> Iterator[tuple[Record, Letter]]:
        """Every letter of which `where` is true; those of one partition in order.

        `meanwhile` is called for each batch, however few letters are in it, instead of the progress.
        """
        self.foreign = self.seen = 0
        for batch in self._reader.read(self.begins, self.ends):
            for record in batch:
                self.seen += 1
                letter = read_letter(record.headers)
                if letter is None:
                    self.foreign += 1
                elif where is None or where(record, self.names[record.topic]):
                    yield record, letter
            if meanwhile is not None:
                meanwhile()
            else:
                self._progress(self.seen)

    def newest(self, what: str) -> tuple[Record, Letter] | None:
        """The newest letter with the id or fingerprint `what`."""
        from orchestrator.operations.records.latest import latest

        def wanted(record: Record) -> bool:
            letter = read_letter(record.headers)
            return letter is not None and what in (letter.id, letter.fingerprint)

        found = latest(self._reader, self.begins, self.ends, 1, wanted)
        letter = read_letter(found[0].headers) if found else None
        return None if letter is None else (found[0], letter)
