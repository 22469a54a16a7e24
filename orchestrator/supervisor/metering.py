"""What a child has measured, added to the totals of its handler, which outlive it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import EXIT_HUNG, EXIT_MEMORY, EXIT_RENEWED
from orchestrator.observe.measured import Measured, OwnedPartition
from orchestrator.observe.totals import Totals, Where
from orchestrator.supervisor.reports import Places
from orchestrator.supervisor.spec import ChildExit


class Metering:
    """One child's newest numbers. What it counts starts anew with every process."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self.begin()

    def begin(self) -> None:
        """Another process: it counts from nothing."""
        self.measured = Measured()
        self.places: Sequence[OwnedPartition] = ()
        self._records: dict[Where, int] = {}
        self._parts: list[OwnedPartition] = []

    def saw(self, measured: Measured) -> None:
        self.totals.add(self.measured, measured)
        self.measured = measured

    def saw_places(self, part: Places) -> None:
        """One part of its partitions. They count as known when all parts of one report are here, in their order."""
        if part.at == 0:
            self._parts = []
        self._parts.extend(part.rows)
        self.totals.add_places(self._records, part.rows)
        self._records |= {(place.topic, place.partition): place.records for place in part.rows}
        if part.at == part.of - 1:
            self.places, self._parts = tuple(self._parts), []


def cause_of(exit: ChildExit) -> str:
    """Why a process had to be started again: the label of `kpipe_handler_restarts_total`."""
    if exit.signal is not None:
        return "killed"
    return {EXIT_HUNG: "hung", EXIT_MEMORY: "memory", EXIT_RENEWED: "renewed"}.get(exit.code or 0, "crashed")
