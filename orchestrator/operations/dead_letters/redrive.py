"""Sending dead letters back to their handlers, in transactions: a plan, then what became of it.

What is in the topics of redriven letters is the only memory there is: whoever begins shuts out everybody else, reads
there what was sent back before, and goes on. So it may be ended at any moment, and started again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import KpipeError
from orchestrator.operations.dead_letters.reader import Letterbox, find_dlqs
from orchestrator.operations.dead_letters.routing import Chosen, RedriveTotals, Routes
from orchestrator.operations.send.deliver import Pace
from orchestrator.records import TopicPartition

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.event import Letter
    from orchestrator.kafka.exclusive_writer import ExclusiveWriter
    from orchestrator.kafka.reader import Reader
    from orchestrator.operations.loading import Project
    from orchestrator.operations.records.where import Where
    from orchestrator.records import Record

#: A transaction ends after so many records or seconds: that much is sent again after a crash, and seen by nobody.
_BATCH = 1_000
_SECONDS = 1.0
_TICK = 0.1


def sent_before(pipeline: Pipeline, reader: Reader) -> dict[str, set[int]]:
    """The letters that each handler was sent back, by `delivery.redrive.key_of_letter`."""
    from orchestrator.delivery.headers.redrive import key_of_redriven

    handlers = {topic: handler.name for topic, handler in pipeline.redrive_topics().items()}
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
    return any(key in keys for keys in before.values())


@dataclass(frozen=True, slots=True)
class Redriven:
    """What goes back where, or went; the other counts are of letters that stay where they are.

    `deliveries` counts by handler and topic, `left_alone` by reason. `sent` is None of a plan. `records` were read,
    `foreign` of them are no letters of kpipe.
    """

    letters: int
    deliveries: Mapping[tuple[str, str], int]
    before: int
    guarded: int
    left_alone: Sequence[tuple[str, int]]
    records: int
    foreign: int
    sent: int | None = None


class RedriveWatcher:
    """What a caller may want to know meanwhile. Each method is called in the caller's own thread."""

    def read(self, letters: int) -> None:
        """So many letters were read for the plan, in all."""

    def sent(self, letters: int) -> None:
        """So many letters were sent back, in all: their transactions are committed."""

    def note(self, text: str) -> None:
        """What could not be made or known as it should."""


class Redrive:
    """Sends letters back, up to the last one that was there when this was made.

    `sent` counts those that went; None until `run` has begun to send.
    """

    def __init__(
        self,
        project: Project,
        reader: Reader,
        dlqs: Sequence[str],
        where: Where | None,
        chosen: Chosen,
        watcher: RedriveWatcher,
    ) -> None:
        self._project = project
        self._reader = reader
        self._where = where
        self._chosen = chosen
        self._watcher = watcher
        self._box = Letterbox(reader, find_dlqs(project.pipeline, dlqs, reader), watcher.read)
        self.sent: int | None = None

    def plan(self) -> Redriven:
        """What would go back where. Nothing is written."""
        routes = self._routes()
        for _, letter in self._box.read(self._where):
            routes.of(letter)
            if routes.full:
                break
        return self._result(routes.totals, None)

    def run(self, plan: Redriven, rate: float | None = None) -> Redriven:
        """Send back what was planned, save what somebody else sent back meanwhile; at most `rate` letters a second.

        May be ended at any moment and started again. Raises BrokerError, WaitTimeout.
        """
        producer = _producer_for(self._project, self._make_topics(plan))
        producer.start()
        # Only now nobody else writes: what is there is all that was sent back.
        routes = self._routes()
        sending = Sending(producer, self._project.pipeline, self._reader, Pace(rate), self._committed)
        self.sent = 0
        try:
            sending.run(self._box.read(self._where, sending.commit_in_time), routes)
        except KpipeError as problem:
            problem.message = f"after {counted(self.sent)} that were sent back: {problem.message}"
            joint = " " if problem.hint.endswith("?") else "; " if problem.hint else ""
            problem.hint = f"{problem.hint}{joint}the same command goes on where this one ended"
            raise
        return self._result(routes.totals, self.sent)

    def _committed(self, letters: int) -> None:
        self.sent = letters
        self._watcher.sent(letters)

    def _routes(self) -> Routes:
        return Routes(self._project.pipeline, self._chosen, sent_before(self._project.pipeline, self._reader))

    def _result(self, totals: RedriveTotals, sent: int | None) -> Redriven:
        return Redriven(
            totals.letters,
            dict(sorted(totals.deliveries.items())),
            totals.before,
            totals.guarded,
            tuple(totals.unknown.most_common()),
            self._box.seen,
            self._box.foreign,
            sent,
        )

    def _make_topics(self, plan: Redriven) -> Mapping[str, int]:
        """The most bytes that each of the topics takes to which letters go; those that are not there are made.

        Raises BrokerError and WaitTimeout.
        """
        from orchestrator.provisioning.on_demand import make

        pipeline = self._project.pipeline
        handlers = [pipeline.handlers[name] for name in sorted({handler for handler, _ in plan.deliveries})]
        cluster = self._project.clients.topics()
        made = make(handlers, pipeline, cluster.admin, cluster.claims)
        for note in made.notes:
            self._watcher.note(note)
        return made.limits


@contextmanager
def redriving(
    project: Project,
    dlqs: Sequence[str] = (),
    chosen: Chosen | None = None,
    where: Where | None = None,
    watcher: RedriveWatcher | None = None,
) -> Iterator[Redrive]:
    """A redrive of letters of the named DLQs (without names: of all in the file), with one connection.

    Raises UsageError for a name that nothing has, BrokerError.
    """
    with project.reader() as reader:
        yield Redrive(project, reader, dlqs, where, chosen or Chosen(), watcher or RedriveWatcher())


def counted(letters: int) -> str:
    """`1 letter`, `1,204 letters`."""
    return f"{letters:,} letter{'' if letters == 1 else 's'}"


def _producer_for(project: Project, limits: Mapping[str, int]) -> ExclusiveWriter:
    """The one writer of this pipeline's topics of redriven letters; it has not begun yet."""
    from orchestrator.provisioning.ownership import owner_of

    smallest = min(limits.values(), default=None)
    return project.clients.exclusive_writer(f"{owner_of(project.pipeline)}.dlq-redrive", smallest)


class Sending:
    """Sends letters back. `committed` gets how many have their transaction committed."""

    def __init__(
        self,
        producer: ExclusiveWriter,
        pipeline: Pipeline,
        reader: Reader,
        pace: Pace,
        committed: Callable[[int], None],
    ) -> None:
        self._producer = producer
        self._committed = committed
        self._pace = pace
        topics = {handler.name: topic for topic, handler in pipeline.redrive_topics().items()}
        there = reader.there(topics.values())
        self._targets = {name: (topic, there.get(topic, 1)) for name, topic in topics.items()}
        self._open = 0
        self._due = 0.0
        self._letters = 0

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
        self._letters += self._open
        self._open, self._due = 0, 0.0
        self._committed(self._letters)
