"""Two versions of one contract: what a change of it does to events that exist, and to those who still know the old one.

- *backward*: every event that keeps the earlier contract keeps the new one. Else events that are in the topic already
  would be dead-lettered by handlers that have the new contract.
- *forward*: every event that keeps the new contract keeps the earlier one. Else handlers that still run with the
  earlier contract would dead-letter new events, and code written for it may miss what it relies on.
- *full*: both.

A member that one version names and the other neither names nor forbids is assumed to have been absent there: adding an
optional member to an open schema is compatible, and is listed as an assumption. Confluent's registry counts it as a
break, and so does `strict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.config.budget import Budget
from orchestrator.contracts.evolution.dialect import modern
from orchestrator.contracts.evolution.inclusion import Misfit, misfits, steps

Direction = Literal["backward", "forward"]
Level = Literal["backward", "forward", "full", "none"]
LEVELS: tuple[Level, ...] = ("backward", "forward", "full", "none")

_UNBOUND = Misfit("$", "has no contract any more: it may be anything")


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What stands against each direction; () where nothing does."""

    backward: tuple[Misfit, ...] = ()
    forward: tuple[Misfit, ...] = ()

    def breaks(self, level: Level, *, strict: bool = False) -> tuple[Misfit, ...]:
        """What breaks the compatibility that `level` asks for."""
        wanted = (self.backward if level in ("backward", "full") else ()) + (
            self.forward if level in ("forward", "full") else ()
        )
        return tuple(one for one in wanted if one.certain or strict)


def compare(old: Any, new: Any, within: Budget | None = None) -> Compatibility:
    """Two resolved schemas of one topic; `new` is None where the contract was taken away.

    Comparisons that share a budget stay `within` it together. What is not compared for that reason is a misfit.
    """
    budget = steps() if within is None else within
    if new is None:
        return Compatibility(forward=(_UNBOUND,))
    earlier, later = modern(old), modern(new)
    return Compatibility(_one_reason(misfits(earlier, later, budget)), _one_reason(misfits(later, earlier, budget)))


def _one_reason(found: tuple[Misfit, ...]) -> tuple[Misfit, ...]:
    """Without an assumption about what is a misfit anyway."""
    sure = {one.path for one in found if one.certain}
    return tuple(one for one in found if one.certain or one.path not in sure)
