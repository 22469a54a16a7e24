"""`kpipe tail`: the last records of topics, all of them, or those to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import ExpectationError, UsageError

if TYPE_CHECKING:
    from orchestrator.cli.render.scan_progress import ScanProgress
    from orchestrator.operations.records.read import ReadOptions, TopicReading
    from orchestrator.records import Record

    _Printer = Callable[[Sequence[Record], Mapping[str, str]], None]


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
    wanted, expect = _wanted(**options)
    show = _printer(app, template, show_topic=len(topics) > 1)  # before anything is read: it may not be a format
    project = app.project()
    from orchestrator.cli.render.scan_progress import ScanProgress
    from orchestrator.operations.records.read import reading

    progress = ScanProgress(filtered=wanted.filter.given, streams=True)
    with reading(project, topics, wanted, progress) as source:
        _show(source, progress, wanted, show)
    _judge(progress.shown, expect, wanted.timeout)


def _show(source: TopicReading, progress: ScanProgress, wanted: ReadOptions, show: _Printer) -> None:
    """Show them all; what was scanned is told also when Ctrl-C ends it."""
    try:
        for records in source.batches():
            progress.show(len(records))
            show(records, source.names)
    except BrokenPipeError:
        raise
    except BaseException:
        progress.summary(wanted.filter.where)
        raise
    progress.summary(wanted.filter.where)


def _judge(shown: int, expect: int | None, timeout: float | None) -> None:
    if expect is not None and shown < expect:
        within = "" if timeout is None else f" within {timeout:g} s"
        raise ExpectationError(
            f"expected {expect} record{'' if expect == 1 else 's'}, found {shown}{within}",
            "the same command without --expect shows what is there",
        )


def _wanted(
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
) -> tuple[ReadOptions, int | None]:
    """What the options ask for, and how many records are expected. Raises UsageError."""
    from orchestrator.cli.render.record import headers_of
    from orchestrator.operations.records.filters import filter_of
    from orchestrator.operations.records.positions import parse_position
    from orchestrator.operations.records.read import DEFAULT_COUNT, ReadOptions

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
    wanted = ReadOptions(
        last=max(DEFAULT_COUNT, expect or 0) if last is None else last,
        position=position,
        follow=follow,
        partitions=_numbers(partitions),
        filter=filter_of(key, headers_of(headers), grep, where),
        limit=limit or expect,
        timeout=seconds,
    )
    return wanted, expect


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
