"""`kpipe tail`: the last records of topics, all of them, or those to come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import BrokerError, ExpectationError, UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline, Topic
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.records.filters import Filter
    from orchestrator.operations.records.positions import Position
    from orchestrator.operations.records.progress import Scan
    from orchestrator.records import Record, TopicPartition

    _Printer = Callable[[Sequence[Record], Mapping[str, str]], None]

DEFAULT_COUNT = 10
#: While it follows it asks so often (seconds) whether the topics are the same.
_ASK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked for. `position` None: the last `last` records. `timeout` is in seconds."""

    last: int
    position: Position | None
    follow: bool
    partitions: frozenset[int]
    filter: Filter
    limit: int | None
    expect: int | None
    timeout: float | None

    def wants(self, names: Mapping[str, str]) -> Callable[[Record], bool] | None:
        """The test of a record, None when all are wanted.

        A start past the end is brought back to the end: what comes before it is not wanted.
        """
        wanted, position = self.filter.on(names), self.position
        if position is not None and position.kind == "offset":
            return lambda record: record.offset >= position.number and wanted(record)
        return wanted if self.filter.given else None


@click.command("tail")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option("-n", "last", type=click.IntRange(0), help="The last N records of each topic.  [default: 10]")
@click.option("-f", "follow", is_flag=True, help="Then wait for new ones, until Ctrl-C.")
@click.option("-o", "start", metavar="WHERE", help="Start at beginning, end, an offset, or a time such as @-15m.")
@click.option("-p", "partitions", multiple=True, metavar="N[,N]", help="Only these partitions.")
@click.option("-k", "key", metavar="KEY", help="Only records with this key.")
@click.option("-H", "headers", multiple=True, metavar="NAME:VALUE", help="Only records with this header.")
@click.option("--where", metavar="EXPR", help="Only records of which this JMESPath expression is true.")
@click.option("--grep", metavar="RE", help="Only records with this pattern in key, value or headers.")
@click.option("-c", "limit", type=click.IntRange(1), metavar="N", help="End after N records.")
@click.option("--expect", type=click.IntRange(1), metavar="N", help="End after N records; with 6 if there are fewer.")
@click.option("--timeout", metavar="TIME", help="With --expect: wait so long for them, such as 10s.")
@click.option("--format", "template", metavar="FORMAT", help="Such as '%t %p %o %k %v %h %T\\n'.")
@click.pass_obj
def command(app: App, /, topics: tuple[str, ...], template: str | None, **options: Any) -> None:
    """Show what is in topics: the last 10 records, then end.

    TOPIC is a name from the pipeline file, or of any topic on the cluster. A dead letter is shown with the
    reason why it is one. Nothing is consumed: no handler notices.
    """
    request = _request(**options)
    show = _printer(app, template, show_topic=len(topics) > 1)  # before anything is read: it may not be a format
    pipeline = app.load()
    from orchestrator.operations.records.progress import Scan
    from orchestrator.operations.topic_names import find_topic

    with app.reader(pipeline) as reader:
        targets = [find_topic(pipeline, name, reader.topics) for name in dict.fromkeys(topics)]
        names = {topic.kafka_name: topic.name for topic in targets}
        logs = [_partitions(reader, topic, request) for topic in targets]
        scan = Scan(reader, request.timeout, filtered=request.filter.given)
        same = _same(app, pipeline, list(names)) if request.follow else lambda: None
        batches = _first(_records(reader, scan, logs, request, names, same), request.limit)
        _show(batches, scan, request, lambda records: show(records, names))
    _judge(scan.shown, request)


def _first(batches: Iterator[Iterable[Record]], limit: int | None) -> Iterator[list[Record]]:
    """Batches up to the record number `limit`; those after it are not looked at."""
    left = limit
    for batch in batches:
        records = list(islice(batch, left))
        if records:
            yield records
        left = None if left is None else left - len(records)
        if left == 0:
            return


def _show(batches: Iterator[list[Record]], scan: Scan, request: _Request, show: Callable[[list[Record]], None]) -> None:
    """Show them all; what was scanned is told also when Ctrl-C or the deadline ends it."""
    from orchestrator.operations.records.progress import TimeIsUp

    try:
        for records in batches:
            scan.show(len(records))
            show(records)
    except TimeIsUp:
        pass
    except BrokenPipeError:
        raise
    except BaseException:
        _tell(scan, request)
        raise
    _tell(scan, request)


def _tell(scan: Scan, request: _Request) -> None:
    scan.tell()
    where = request.filter.where
    if where is not None and where.failed:
        output.say(f"--where could not be asked about {where.failed:,} of them: {output.safe(where.why)}")


def _judge(shown: int, request: _Request) -> None:
    if request.expect is not None and shown < request.expect:
        within = "" if request.timeout is None else f" within {request.timeout:g} s"
        raise ExpectationError(
            f"expected {request.expect} record{'' if request.expect == 1 else 's'}, found {shown}{within}",
            "the same command without --expect shows what is there",
        )


def _request(
    last: int | None,
    start: str | None,
    follow: bool,
    partitions: tuple[str, ...],
    key: str | None,
    headers: tuple[str, ...],
    where: str | None,
    grep: str | None,
    limit: int | None,
    expect: int | None,
    timeout: str | None,
) -> _Request:
    from orchestrator.operations.records.filters import filter_of
    from orchestrator.operations.records.positions import parse_position

    seconds = _seconds(timeout, expect)
    if expect is not None and limit is not None and limit < expect:
        raise UsageError(f"-c {limit} ends before --expect {expect} can be met", "leave out -c")
    if last is not None and start is not None:
        raise UsageError("-n and -o both say where to start", "give one of them; -c ends after so many records")
    follow = follow or seconds is not None
    if not follow and (last == 0 or start == "end"):
        given = "-n 0" if last == 0 else "-o end"
        raise UsageError(f"{given} shows nothing", "with -f it shows the records that come from now on")
    position = None if start is None else parse_position(start, datetime.now().astimezone())
    return _Request(
        last=max(DEFAULT_COUNT, expect or 0) if last is None else last,
        position=position,
        follow=follow,
        partitions=_numbers(partitions),
        filter=filter_of(key, headers, grep, where),
        limit=limit or expect,
        expect=expect,
        timeout=seconds,
    )


def _seconds(text: str | None, expect: int | None) -> float | None:
    from orchestrator.config.units import seconds

    if text is None:
        return None
    if expect is None:
        raise UsageError("--timeout is how long --expect waits", "give --expect N too, or end -f with Ctrl-C")
    try:
        return seconds(text)
    except ValueError:
        raise UsageError(f"--timeout {text}: not a time", "write it with its unit: 500ms, 10s, 5m") from None


def _numbers(words: tuple[str, ...]) -> frozenset[int]:
    parts = [part.strip() for word in words for part in word.split(",")]
    wrong = next((part for part in parts if not (part.isascii() and part.isdigit())), None)
    if wrong is not None:
        raise UsageError(f"-p {wrong}: not a partition", "write -p 0, or -p 0,2")
    return frozenset(map(int, parts))


def _printer(app: App, template: str | None, *, show_topic: bool) -> _Printer:
    """What prints a batch of records, given the names of topics in the file by those on the cluster."""
    from orchestrator.cli.render import record as formats
    from orchestrator.cli.render import record_lines

    if template is not None and app.json:
        raise UsageError("--format and --json both say what a record looks like", "give one of them")
    if template is not None:
        render = formats.by_format(template, escaped=output.is_terminal())
        return lambda records, names: output.write(b"".join([render(one, names[one.topic]) for one in records]))
    if app.json:
        return lambda records, names: output.json_text(*[formats.as_json(one, names[one.topic]) for one in records])
    if output.is_terminal():
        return lambda records, names: output.data(
            *[formats.for_people(one, names[one.topic], show_topic=show_topic) for one in records]
        )
    return lambda records, names: output.data(*record_lines.for_people(records, names, show_topic=show_topic))


def _partitions(reader: Reader, topic: Topic, request: _Request) -> list[TopicPartition]:
    from orchestrator.operations.topic_names import check_partitions, not_created
    from orchestrator.records import TopicPartition

    count = reader.partitions(topic.kafka_name)
    if not count:
        raise not_created(topic)
    check_partitions(topic, count, request.partitions)
    return [TopicPartition(topic.kafka_name, number) for number in sorted(request.partitions or range(count))]


def _records(
    reader: Reader,
    scan: Scan,
    logs: list[list[TopicPartition]],
    request: _Request,
    names: Mapping[str, str],
    same: Callable[[], None],
) -> Iterator[Iterable[Record]]:
    """What was asked for, in batches, topic by topic merged by time where an end is known, else as it comes.

    `same` is called while it follows, and raises when a topic is not the same any more.
    """
    from orchestrator.operations.records.latest import latest, newest
    from orchestrator.operations.records.positions import starts

    every = [tp for log in logs for tp in log]
    begins, ends = reader.beginnings(every), reader.ends(every)
    wants = request.wants(names)
    if request.position is None:
        lasts = [latest(scan, {tp: begins[tp] for tp in log}, ends, request.last, wants) for log in logs]
        yield newest(lasts, sum(map(len, lasts)))
        at = ends
    else:
        at = starts(request.position, reader, begins, ends)
    if request.follow:
        yield from _streamed(scan, scan.read(at), wants, same)
    elif request.position is not None:
        yield from _streamed(scan, scan.read(at, ends), wants)


def _streamed(
    scan: Scan,
    batches: Iterator[list[Record]],
    wants: Callable[[Record], bool] | None,
    same: Callable[[], None] = lambda: None,
) -> Iterator[Iterable[Record]]:
    """Those of the batches' records that are wanted; while none come, what was printed is flushed and an outage is
    told once."""
    told = False
    output.flush()
    for batch in batches:
        same()
        yield batch if wants is None else filter(wants, batch)
        if not batch:
            output.flush()
            output.check_reader()
        if scan.away and not told:
            output.say("Kafka is away; waiting for it to come back")
        told = scan.away


def _same(app: App, pipeline: Pipeline, topics: list[str]) -> Callable[[], None]:
    """What raises BrokerError once one of the topics was deleted and made anew: a reader would go on at old offsets."""
    from orchestrator.delivery.offsets.start import is_remade
    from orchestrator.kafka.admin.topic_ids import TopicIds
    from orchestrator.kafka.properties import client_properties

    asked = TopicIds(client_properties(pipeline.kafka, "admin", app.bootstrap(pipeline)))
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
