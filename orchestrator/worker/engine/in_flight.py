"""Events on their way in a pool, and the thread for those that run in quarantine beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Literal, NamedTuple

from orchestrator.delivery.lanes import Lane
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.pending import Pending
from orchestrator.event import Event
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.engine.attempts import Attempts
from orchestrator.worker.engine.pool import Pool
from orchestrator.worker.produce.batch import Batch

#: What comes back for an event that was not run: it is a copy, or only its letter is missing.
Unrun = Literal["copy", "letter"]


class EventsInFlight:
    """One event on its way: its lane's head. `began` and `deadline` are on the loop's clock; `slot` is the journal's.

    `apart`: it runs in quarantine.
    """

    __slots__ = ("apart", "began", "deadline", "lane", "part", "pending", "slot", "source")

    def __init__(self, part: Partition, source: Input, lane: Lane, pending: Pending, deadline: float) -> None:
        self.part = part
        self.source = source
        self.lane = lane
        self.pending = pending
        self.deadline = deadline
        self.began = 0.0
        self.slot = 0
        self.apart = False


class Ended(NamedTuple):
    """The answers of one partition: `sent` are those in the batch, `runs` is how many there were."""

    batch: Batch
    sent: list[EventsInFlight]
    runs: int


class Apart:
    """The thread that runs events in quarantine, one at a time; they answer where all others do."""

    def __init__(self, attempts: Attempts, pool: Pool[EventsInFlight], on_answer: Callable[[], None]) -> None:
        self._work: SimpleQueue[tuple[Event, EventsInFlight] | None] = SimpleQueue()
        self._attempts = attempts
        self._pool = pool
        self._on_answer = on_answer
        threading.Thread(target=self._run, name="quarantine", daemon=True).start()

    def start(self, event: Event, running: EventsInFlight) -> None:
        self._work.put((event, running))

    def close(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            event, running = work
            try:
                answer = self._attempts.run_apart(running.part, event, running.pending.record)
            except BaseException as e:  # noqa: BLE001 - handed to the loop's thread, which ends the worker with it
                self._pool.error = e
            else:
                self._pool.answers.put((running, answer))
            self._on_answer()
