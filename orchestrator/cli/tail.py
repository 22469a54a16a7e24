"""`kpipe tail`: the last records of topics, all of them, or those to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import click

from orchestrator.cli import present
from orchestrator.cli.context import App
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.positions import Position
    from orchestrator.config.model import Topic
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import Record, TopicPartition

DEFAULT_COUNT = 10


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for. `position` None: the last `last` records."""

    last: int
    position: Position | None
    follow: bool
    partitions: frozenset[int]
    key: bytes | None
    limit: int | None

    def wants(self, record: Record) -> bool:
        if self.key is not None and record.key != self.key:
            return False
        # A start past the end is brought back to the end: what comes before it is still not wanted.
        return self.position is None or self.position.kind != "offset" or record.offset >= self.position.number


@click.command("tail")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option("-n", "last", type=click.IntRange(0), help="The last N records of each topic.  [default: 10]")
@click.option("-f", "follow", is_flag=True, help="Then wait for new ones, until Ctrl-C.")
@click.option("-o", "start", metavar="WHERE", help="Start at beginning, end, an offset, or a time such as @-15m.")
@click.option("-p", "partitions", multiple=True, metavar="N[,N]", help="Only these partitions.")
@click.option("-k", "key", metavar="KEY", help="Only records with this key.")
@click.option("-c", "limit", type=click.IntRange(1), metavar="N", help="End after N records.")
@click.option("--format", "template", metavar="FORMAT", help="Such as '%t %p %o %k %v %h %T\\n'.")
@click.pass_obj
def command(
    app: App,
    topics: tuple[str, ...],
    last: int | None,
    follow: bool,
    start: str | None,
    partitions: tuple[str, ...],
    key: str | None,
    limit: int | None,
    template: str | None,
) -> None:
    """Show what is in topics: the last 10 records, then end.

    TOPIC is a name from the pipeline file, or of any topic on the cluster. A dead letter is shown with the
    reason why it is one. Nothing is consumed: no handler notices.
    """
    request = _request(last, start, follow, partitions, key, limit)
    show = _printer(app, template, show_topic=len(topics) > 1)
    pipeline = app.load()
    from orchestrator.cli.targets import find_topic

    with app.reader(pipeline) as reader:
        targets = [find_topic(pipeline, name, reader.topics) for name in dict.fromkeys(topics)]
        names = {topic.kafka_name: topic.name for topic in targets}
        logs = [_partitions(reader, topic, request) for topic in targets]
        for record in islice(_records(reader, logs, request), limit):
            show(record, names[record.topic])


def _request(
    last: int | None,
    start: str | None,
    follow: bool,
    partitions: tuple[str, ...],
    key: str | None,
    limit: int | None,
) -> _Request:
    from orchestrator.cli.positions import parse_position

    if last is not None and start is not None:
        raise UsageError("-n and -o both say where to start", "give one of them; -c ends after so many records")
    if not follow and (last == 0 or start == "end"):
        given = "-n 0" if last == 0 else "-o end"
        raise UsageError(f"{given} shows nothing", "with -f it shows the records that come from now on")
    position = None if start is None else parse_position(start, datetime.now().astimezone())
    raw_key = None if key is None else key.encode("utf-8", "surrogateescape")
    count = DEFAULT_COUNT if last is None else last
    return _Request(count, position, follow, _numbers(partitions), raw_key, limit)


def _numbers(words: tuple[str, ...]) -> frozenset[int]:
    parts = [part.strip() for word in words for part in word.split(",")]
    wrong = next((part for part in parts if not (part.isascii() and part.isdigit())), None)
    if wrong is not None:
        raise UsageError(f"-p {wrong}: not a partition", "write -p 0, or -p 0,2")
    return frozenset(map(int, parts))


def _printer(app: App, template: str | None, *, show_topic: bool) -> Callable[[Record, str], None]:
    from orchestrator.cli import formats

    if template is None and app.json:
        return lambda record, topic: present.json_text(formats.as_json(record, topic))
    if template is None:
        return lambda record, topic: present.data(formats.for_people(record, topic, show_topic=show_topic))
    if app.json:
        raise UsageError("--format and --json both say what a record looks like", "give one of them")
    render = formats.by_format(template, escaped=present.is_terminal())
    return lambda record, topic: present.write(render(record, topic))


def _partitions(reader: Reader, topic: Topic, request: _Request) -> list[TopicPartition]:
    from orchestrator.cli.targets import check_partitions, not_created
    from orchestrator.records import TopicPartition

    count = reader.partitions(topic.kafka_name)
    if not count:
        raise not_created(topic)
    check_partitions(topic, count, request.partitions)
    return [TopicPartition(topic.kafka_name, number) for number in sorted(request.partitions or range(count))]


def _records(reader: Reader, logs: list[list[TopicPartition]], request: _Request) -> Iterator[Record]:
    """What was asked for, topic by topic merged by time where an end is known, else as it comes."""
    from orchestrator.cli.latest import latest, newest
    from orchestrator.cli.positions import starts

    every = [tp for log in logs for tp in log]
    begins, ends = reader.beginnings(every), reader.ends(every)
    wants = None if request.key is None else request.wants
    if request.position is None:
        lasts = [latest(reader, {tp: begins[tp] for tp in log}, ends, request.last, wants) for log in logs]
        yield from newest(lasts, sum(map(len, lasts)))
        at = ends
    else:
        at = starts(request.position, reader, begins, ends)
    if request.follow:
        yield from filter(request.wants, _streamed(reader, reader.read(at)))
    elif request.position is not None:
        yield from filter(request.wants, _streamed(reader, reader.read(at, ends)))


def _streamed(reader: Reader, batches: Iterator[list[Record]]) -> Iterator[Record]:
    """The records of batches; while none come, what was printed is flushed and an outage is told once."""
    told = False
    present.flush()
    for batch in batches:
        yield from batch
        if not batch:
            present.flush()
            present.check_reader()
        if reader.away and not told:
            present.say("Kafka is away; waiting for it to come back")
        told = reader.away
