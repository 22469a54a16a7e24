"""Which events may have killed a worker, from one life of a worker to the next. DESIGN section 5, step 8.

What a worker has in flight is in its journal. When it dies uncleanly, whoever is assigned the partition next on this
machine finds it there, puts it under suspicion, and says so in the partition's next commit; from then on it is known
everywhere.
"""

from __future__ import annotations

import logging
from pathlib import Path

from orchestrator.config.model import Handler
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.strikes import WHOLE, Strikes
from orchestrator.observe.journal import Journal, claim, dead_journals
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.events import WorkerEvents

log = logging.getLogger("kpipe.worker")

#: After so many events that ended well a life is not taken for part of a row of deaths.
LONG_LIFE = 1_000
#: A commit before an event runs alone is waited for so long (seconds).
ANNOUNCE_SECONDS = 5.0


class Suspects:
    """A worker's journal, and what it makes of those that it finds."""

    def __init__(self, handler: Handler, folder: Path, slot: int, ledger: Assignments, facts: WorkerEvents) -> None:
        """`folder` is where the journals of this machine are."""
        self._handler = handler
        self._folder = folder
        self._ledger = ledger
        self._facts = facts
        name = f"{handler.group}.{slot}"
        former = [dead for dead in dead_journals(folder, handler.group) if dead.name == name]
        #: Unclean deaths in a row.
        self.deaths = max((dead.deaths * (dead.done < LONG_LIFE) + 1 for dead in former), default=0)
        self.journal = Journal(folder, name, handler.concurrency, self.deaths)
        if self.journal.path is None:
            log.warning("%s cannot be written: after a crash it is not known which event ran", folder)

    @property
    def wary(self) -> int:
        """How many events have to end well in quarantine before others run in the worker: 1, 10, 100, 1,000."""
        return min(10 ** (self.deaths - 1), 1_000) if self.deaths and self._deadly else 0

    @property
    def _deadly(self) -> bool:
        """Whether the handler's code runs in the worker's own process."""
        return self._handler.kind == "python"

    def suspect(self, part: Partition) -> None:
        """A new epoch: what ran when a worker died, and is not settled, is under suspicion in it."""
        part.journal_index = self.journal.index_of(part.tp)
        for found in claim(self._folder, self._handler.group, part.tp) if self._deadly else ():
            if not part.frontier.is_settled(found.offset):
                held = part.suspects.get(found.offset, Strikes())
                part.suspects[found.offset] = Strikes(held.thirds + WHOLE * found.proven)
                self._facts.suspected(part.tp, found.offset, found.hung)

    def announce(self, part: Partition, offset: int | None) -> bool:
        """Have the group told that an event is about to run alone, or (None) that one has come to its end; whether it
        was."""
        told = self._ledger.announce(part, offset, ANNOUNCE_SECONDS)
        if not told and not part.draining:
            log.warning("%s[%d]: what is known of an event that may kill processes is not committed", *part.tp)
        return told
