"""Options of the format whose behaviour this version does not have. What works later loses its row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestrator.config.checks.facts import Facts


class Row(NamedTuple):
    """`option` may only have one of the values that `works` lists; `what` says what is missing."""

    option: str
    what: str
    works: tuple[Any, ...] = ()


NOT_YET = (Row("interpreter", "`interpreter` is"),)


def check(facts: Facts) -> None:
    """Every use of an option that has no behaviour yet."""
    _check(facts, ("defaults", "handler"), facts.doc.section("defaults", "handler"))
    for name, own in facts.handlers.items():
        _check(facts, ("handlers", name), own)


def _check(facts: Facts, path: tuple[str, str], options: Mapping[str, Any]) -> None:
    for row in NOT_YET:
        if row.option in options and options[row.option] not in row.works:
            message = f"{row.what} not supported by this version of kpipe"
            hint = f"remove it, or write {row.works[0]}" if row.works else "remove it"
            facts.doc.find("not-yet", (*path, row.option), message, hint, key=True)
