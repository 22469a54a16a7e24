"""The steps of `kpipe dlq redrive`: count, show, ask, then send back in transactions.

What is in the topics of redriven letters is the only memory there is: whoever begins shuts out everybody else, reads
there what was sent back before, and goes on. So it may be ended at any moment, and started again.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render import output
from orchestrator.errors import KpipeError, UsageError
from orchestrator.records import TopicPartition

if TYPE_CHECKING:
    from orchestrator.cli.context import App
    from orchestrator.config.model import Pipeline
    from orchestrator.event import Letter
    from orchestrator.kafka.exclusive_writer import TransactionalProducer
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.dead_letters.reader import Letterbox
    from orchestrator.operations.dead_letters.routing import Chosen, Routes, Totals
    from orchestrator.operations.records.where import Where
    from orchestrator.operations.send.deliver import Pace
    from orchestrator.records import Record

#: A transaction ends after so many records or seconds: that much is sent again after a crash, and seen by nobody.
_BATCH = 1_000
_SECONDS = 1.0
_TICK = 0.1


def sent_before(pipeline: Pipeline, reader: Reader) -> dict[str, set[int]]:
    """The letters that each handler was sent back, by `delivery.redrive.key_of_letter`."""
    from orchestrator.delivery.headers.redrive import key_of_redriven

    handlers = {topic: h.name for h in pipeline.handlers.values() if (topic := pipeline.redrive_topic(h)) is not None}
    before: dict[str, set[int]] = {name: set() for name in handlers.values()}
    there = reader.there(handlers)
    tps = [TopicPartition(topic, n) for topic in handlers for n in range(there.get(topic, 0))]
    for batch in reader.read(reader.beginnings(tps), reader.ends(tps)):
        for record in batch:
            key = key_of_redriven(record)
            if key is not None:
                before[handlers[record.topic]].add(key)
    return before


def was_sent(letter: Letter, before: Mapping[str, set[int]]) -> bool:
    """Whether any handler was sent back this letter."""
    from orchestrator.delivery.headers.redrive import key_of_letter

    key = key_of_letter(letter)
    return any(key in known for known in before.values())


def plan(pipeline: Pipeline, reader: Reader, box: Letterbox, where: Where | None, chosen: Chosen) -> Totals:
    """What would go back where."""
    from orchestrator.operations.dead_letters.routing import Routes

    routes = Routes(pipeline, chosen, sent_before(pipeline, reader))
    for _, letter in box.read(where):
        routes.of(letter)
        if routes.full:
            break
    return routes.totals


def show(totals: Totals, box: Letterbox, *, json: bool, redriven: int | None = None) -> None:
    """What goes back where; with `redriven` letters sent back also that."""
    if json:
        output.json_line(_as_json(totals, box, redriven))
        return
    if totals.letters:
        rows = [(handler, topic, f"{count:,}") for (handler, topic), count in sorted(totals.deliveries.items())]
        output.table(("HANDLER", "TOPIC", "LETTERS"), rows)
    else:
        output.data("Nothing to send back.")
    for line in _left(totals):
        output.say(line)


def ask(letters: int) -> bool:
    """Ask on the terminal. Raises UsageError where there is none: silence must not stand for an answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "there is no terminal to ask on, so nothing was sent back",
            "add -y to send these letters back, or --dry-run to only see the plan",
        )
    output.say(f"Send {_letters(letters)} back? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def carry_out(
    app: App,
    pipeline: Pipeline,
    reader: Reader,
    box: Letterbox,
    where: Where | None,
    chosen: Chosen,
    planned: Totals,
    rate: float | None,
) -> None:
    """Send back what was planned, save what somebody else sent back meanwhile. Raises BrokerError."""
    from orchestrator.operations.dead_letters.routing import Routes
    from orchestrator.operations.send.deliver import Pace

    producer = producer_for(app, pipeline, make_topics(app, pipeline, planned))
    producer.start()
    # Only now nobody else writes: what is there is all that was sent back.
    routes = Routes(pipeline, chosen, sent_before(pipeline, reader))
    sending = Sending(producer, pipeline, reader, Pace(rate))
    try:
        sending.run(box.read(where, sending.commit_in_time), routes)
    except KeyboardInterrupt:
        output.say(f"Sent back {_letters(sending.letters)}; the same command goes on where this one ended.")
        raise
    except KpipeError as problem:
        problem.message = f"after {_letters(sending.letters)} that were sent back: {problem.message}"
        joint = " " if problem.hint.endswith("?") else "; " if problem.hint else ""
        problem.hint = f"{problem.hint}{joint}the same command goes on where this one ended"
        raise
    if app.json:
        show(routes.totals, box, json=True, redriven=sending.letters)
    else:
        _finished(sending.letters, routes.totals)


def make_topics(app: App, pipeline: Pipeline, totals: Totals) -> Mapping[str, int]:
    """The topics that the letters go to, made if they are not there, and the most bytes that each of them takes.

    Raises BrokerError and WaitTimeout.
    """
    from orchestrator.operations.cluster import connect
    from orchestrator.provisioning.on_demand import make

    handlers = [pipeline.handlers[name] for name in sorted({h for h, _ in totals.deliveries})]
    cluster = connect(pipeline, app.bootstrap(pipeline))
    made = make(handlers, pipeline, cluster.admin, cluster.claims)
    for note in made.notes:
        output.say(output.safe(note))
    return made.limits


def producer_for(app: App, pipeline: Pipeline, limits: Mapping[str, int]) -> TransactionalProducer:
    """The one writer of this pipeline's topics of redriven letters; it has not begun yet."""
    from orchestrator.kafka.exclusive_writer import TransactionalProducer
    from orchestrator.kafka.properties import client_properties, denser
    from orchestrator.provisioning.ownership import owner_of

    smallest = min(limits.values(), default=None)
    properties = client_properties(pipeline.kafka, "producer", app.bootstrap(pipeline), smallest=smallest)
    return TransactionalProducer(properties | denser(pipeline.kafka), f"{owner_of(pipeline)}.dlq-redrive")


class Sending:
    """Sends letters back. `letters` counts those whose transaction is committed."""

    def __init__(self, producer: TransactionalProducer, pipeline: Pipeline, reader: Reader, pace: Pace) -> None:
        self._producer = producer
        self._pace = pace
        topics = {h.name: topic for h in pipeline.handlers.values() if (topic := pipeline.redrive_topic(h)) is not None}
        there = reader.there(topics.values())
        self._targets = {name: (topic, there.get(topic, 1)) for name, topic in topics.items()}
        self._open = 0
        self._due = 0.0
        self.letters = 0

    def run(self, letters: Iterable[tuple[Record, Letter]], routes: Routes) -> None:
        """Send every letter to the handlers that `routes` names. Whatever ends it, what is open is undone."""
        try:
            for record, letter in letters:
                self._send(record, letter, routes)
                if routes.full:
                    break
            self._commit()
        except BaseException:
            self._producer.abort()
            raise

    def _send(self, record: Record, letter: Letter, routes: Routes) -> None:
        from orchestrator.delivery.headers.redrive import send_back

        handlers = routes.of(letter)
        for handler in handlers:
            while (ahead := self._pace.ahead()) > 0:
                self.commit_in_time()
                time.sleep(min(ahead, _TICK))
            self._producer.send(send_back(record, letter, *self._targets[handler.name]))
        if handlers:
            self._due = self._due or time.monotonic() + _SECONDS
            self._open += 1
            self.commit_in_time()

    def commit_in_time(self) -> None:
        """End the open transaction when it is large or old enough."""
        if self._open >= _BATCH or (self._open and time.monotonic() > self._due):
            self._commit()

    def _commit(self) -> None:
        self._producer.commit()
        self.letters += self._open
        self._open, self._due = 0, 0.0
        output.in_place(f"sent back {self.letters:,} letters")


def _finished(letters: int, totals: Totals) -> None:
    by_handler: Counter[str] = Counter()
    for (handler, _), count in totals.deliveries.items():
        by_handler[handler] += count
    each = ", ".join(f"{count:,} to {handler}" for handler, count in sorted(by_handler.items()))
    output.say(f"Sent back {_letters(letters)}{f': {each}' if each else ''}.")
    output.say("next: `kpipe lag` shows how far they are handled")


def _left(totals: Totals) -> Iterator[str]:
    if totals.before:
        yield f"{_letters(totals.before)} sent back before: not again"
    if totals.guarded:
        yield f"{_letters(totals.guarded)} sent back too often: --max-redrives lets them go once more"
    for why, count in totals.unknown.most_common():
        yield f"{_letters(count)} {output.safe(why)}: left alone"


def _as_json(totals: Totals, box: Letterbox, redriven: int | None) -> dict[str, Any]:
    return {
        "letters": totals.letters,
        "deliveries": [
            {"handler": handler, "topic": topic, "letters": count}
            for (handler, topic), count in sorted(totals.deliveries.items())
        ],
        "redriven": redriven,
        "before": totals.before,
        "guarded": totals.guarded,
        "left_alone": [{"why": why, "letters": count} for why, count in totals.unknown.most_common()],
        "foreign": box.foreign,
    }


def _letters(count: int) -> str:
    return f"{count:,} letter{'' if count == 1 else 's'}"
