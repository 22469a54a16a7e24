"""`kpipe lag`: how far each handler is behind, in events and in time, by Kafka's own word."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import ForbiddenError, UsageError
from orchestrator.records import TopicPartition

if TYPE_CHECKING:
    from orchestrator.config.model import Handler, Pipeline
    from orchestrator.delivery.offsets.start import Jump
    from orchestrator.kafka.reader import Reader

#: Seconds for finding out how old the oldest waiting events are; what is not known by then is not shown.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a handler stands in one partition. `committed` None: it has never committed there.

    `jump` is why it would not go on there.
    """

    topic: str
    committed: int | None
    position: int
    end: int
    jump: Jump | None

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)


@click.command("lag")
@click.argument("handlers", nargs=-1, metavar="[HANDLER]...")
@click.pass_obj
def command(app: App, handlers: tuple[str, ...]) -> None:
    """Show how far handlers are behind: the events between what they have committed and the end.

    BEHIND is how long the oldest of those events has been waiting. It asks Kafka and not the running pipeline, so
    it works without one, too. An offset that a handler could not go on at is named below the table: one of a topic
    that was deleted and made anew, or one that the log does not have.
    """
    pipeline = app.load()
    wanted = _wanted(pipeline, handlers)
    with app.reader(pipeline, needs="DESCRIBE") as reader:
        places = {handler.name: _places(app, pipeline, handler, reader) for handler in wanted}
        oldest = {name: _oldest(reader, mine) for name, mine in places.items()}
    now = time.time() * 1000
    told = [_told(handler, places[handler.name], oldest[handler.name], now) for handler in wanted]
    if app.json:
        output.json_line({"handlers": told})
    else:
        _show(told)


def _wanted(pipeline: Pipeline, names: tuple[str, ...]) -> list[Handler]:
    from orchestrator.text import did_you_mean

    consuming = {handler.name: handler for handler in pipeline.handlers.values() if handler.consumes}
    for name in names:
        if name in pipeline.handlers and name not in consuming:
            raise UsageError(f"{name} is a service: it consumes no topics", "leave it out")
        if name not in consuming:
            hint = did_you_mean(name, consuming) or f"there are {', '.join(consuming) or 'none'}"
            raise UsageError(f"there is no handler `{name}`", hint)
    return [consuming[name] for name in dict.fromkeys(names)] or list(consuming.values())


def _places(app: App, pipeline: Pipeline, handler: Handler, reader: Reader) -> dict[TopicPartition, Place]:
    """Every partition that the handler reads: of its topics, and of its redriven letters where there are any."""
    from orchestrator.operations.group_positions import Standings

    names = {pipeline.topics[name].kafka_name: name for name in handler.consumes}
    partitions = _partitions(pipeline, handler, reader)
    asked = Standings(pipeline, app.bootstrap(pipeline))
    made, ids = asked.commits(handler, partitions), asked.topic_ids(partitions)
    begins, ends = reader.beginnings(partitions), reader.ends(partitions)
    standings = asked.of(handler, made, ids, begins, ends)

    def place(tp: TopicPartition) -> Place:
        committed, position, jump = standings[tp]
        offset = None if committed is None else committed.offset
        return Place(names.get(tp.topic, tp.topic), offset, position, ends[tp], jump)

    return {tp: place(tp) for tp in partitions}


def _partitions(pipeline: Pipeline, handler: Handler, reader: Reader) -> list[TopicPartition]:
    from orchestrator.operations.topic_names import not_created

    redriven = pipeline.redrive_topic(handler)
    counts = reader.there([redriven]) if redriven else {}
    for name in handler.consumes:
        topic = pipeline.topics[name]
        counts[topic.kafka_name] = reader.partitions(topic.kafka_name)
        if not counts[topic.kafka_name]:
            raise not_created(topic)
    return sorted(TopicPartition(name, number) for name, count in counts.items() for number in range(count))


def _oldest(reader: Reader, places: Mapping[TopicPartition, Place]) -> dict[TopicPartition, int]:
    """The timestamp of the first waiting event of each partition that has one, as far as it can be known in time."""
    starts = {tp: place.position for tp, place in places.items() if place.lag}
    found: dict[TopicPartition, int] = {}
    deadline = time.monotonic() + _LOOK_SECONDS
    try:
        for batch in reader.read(starts, {tp: places[tp].end for tp in starts}):
            for record in batch:
                found.setdefault(TopicPartition(record.topic, record.partition), record.timestamp)
            if len(found) == len(starts) or time.monotonic() > deadline:
                break
    except ForbiddenError:  # how many are behind is known without reading one, only not how long
        return {}
    return {tp: timestamp for tp, timestamp in found.items() if timestamp >= 0}


def _told(
    handler: Handler, places: Mapping[TopicPartition, Place], oldest: Mapping[TopicPartition, int], now: float
) -> dict[str, Any]:
    behind = [_seconds(place, oldest.get(tp), now) for tp, place in places.items()]
    known = [seconds for seconds in behind if seconds is not None]
    partitions = [
        {
            "topic": place.topic,
            "partition": tp.partition,
            "committed": place.committed,
            "end": place.end,
            "lag": place.lag,
            "lag_seconds": seconds,
            "jump": None if place.jump is None else place.jump.cause.value,
        }
        for (tp, place), seconds in zip(places.items(), behind, strict=True)
    ]
    return {
        "name": handler.name,
        "group": handler.group,
        "lag": sum(place.lag for place in places.values()),
        "lag_seconds": max(known, default=0.0) if len(known) == len(behind) else None,
        "partitions": partitions,
    }


def _seconds(place: Place, oldest: int | None, now: float) -> float | None:
    """0 when nothing waits; None when something does and its time is not known."""
    if not place.lag:
        return 0.0
    return None if oldest is None else round(max(0.0, now - oldest) / 1000, 3)


def _show(handlers: list[dict[str, Any]]) -> None:
    from orchestrator.cli.render.up_text import duration

    rows = [
        (
            handler["name"],
            part["topic"],
            part["partition"],
            part["committed"],
            part["end"],
            part["lag"],
            None if part["lag_seconds"] is None else duration(part["lag_seconds"]),
        )
        for handler in handlers
        for part in handler["partitions"]
    ]
    output.table(("HANDLER", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND"), rows)
    for handler in handlers:
        for part in handler["partitions"]:
            if part["jump"] is not None:
                output.say(f"{handler['name']}: {part['topic']}[{part['partition']}]: {_JUMPS[part['jump']]}")


#: Why a handler would not go on where it committed, by `delivery.start.Cause`.
_JUMPS = {
    "remade": "the committed offset is of a topic that was deleted and made anew since: all of the new one is waiting",
    "removed": "the committed offset does not exist any more: events were removed unread by retention",
    "truncated": "the committed offset is beyond the end of the log, which has lost records",
    "beyond": "the committed offset is beyond the end of the log, and was not committed by this version of kpipe",
    "expired": "the committed offset has expired: the handler will start at the first event that exists",
}
