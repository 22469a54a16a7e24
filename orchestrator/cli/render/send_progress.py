"""What `send` shows of many events: a receipt for each, and on a terminal how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.render import output

if TYPE_CHECKING:
    from orchestrator.records import Record

#: So many receipts a person reads; beyond, a terminal gets progress and a sum instead.
MANY = 100
_EVERY = 0.25


class Shown:
    """Shows the records that are acknowledged, or on a terminal their number of `total`."""

    def __init__(self, receipts: Callable[[Sequence[Record]], None], total: int) -> None:
        self._receipts = receipts
        self._total = total
        self._began = self._told = time.monotonic()
        self._each = total <= MANY or not output.is_terminal()
        self._moves = total > 1 and output.animated()
        self.count = 0

    def __call__(self, records: Sequence[Record]) -> None:
        self.count += len(records)
        if self._each:
            self._clear()
            self._receipts(records)
        now = time.monotonic()
        if self._moves and now - self._told > _EVERY:
            self._told = now
            output.in_place(f"{self.count:,} of {self._total:,} events, {self._rate(now):,.0f} a second")

    def finish(self) -> None:
        """All are acknowledged: the sum, on a terminal that did not get a line for each."""
        self._clear()
        if not self._each:
            took = time.monotonic() - self._began
            output.say(f"sent {self.count:,} events in {took:.1f} s, {self._rate(self._began + took):,.0f} a second")

    def interrupted(self) -> None:
        """How far it came, when it was to be more than one."""
        if self._total > 1:
            output.say(f"ended after {self.count:,} of {self._total:,} events")

    def _clear(self) -> None:
        if self._moves:
            output.in_place("")

    def _rate(self, now: float) -> float:
        return self.count / max(now - self._began, 0.001)
