"""Where each letter goes back to, and why some go nowhere. Pure: what was sent back before is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.config.model import Handler, Pipeline
from orchestrator.delivery.headers.redrive import key_of_letter
from orchestrator.event import Letter

#: A letter that was sent back so often stays where it is, unless told otherwise.
MOST_REDRIVES = 3
#: Reasons that are told apart.
_MOST_REASONS = 20
_CONTRACT = ("decode", "schema")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters were asked for, besides by an expression. Empty or None: all of them."""

    fingerprints: frozenset[str] = frozenset()
    handler: str | None = None
    most: int | None = None
    most_redrives: int = MOST_REDRIVES


@dataclass(slots=True)
class RedriveTotals:
    """`letters` go back, as `deliveries` (by handler and topic, the file's names). The others are letters that stay."""

    letters: int = 0
    deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)
    before: int = 0
    guarded: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


class Routes:
    """Decides letter by letter, and keeps count. `before` is what each handler was sent back already; it grows."""

    def __init__(self, pipeline: Pipeline, chosen: Chosen, before: Mapping[str, set[int]]) -> None:
        self._pipeline = pipeline
        self._chosen = chosen
        self._before = before
        self._topics = {topic.kafka_name: name for name, topic in pipeline.topics.items()}
        self.totals = RedriveTotals()

    @property
    def full(self) -> bool:
        """As many as were asked for go back."""
        return self._chosen.most is not None and self.totals.letters >= self._chosen.most

    def of(self, letter: Letter) -> list[Handler]:
        """The handlers that get this letter now. None of them if it was sent to all of its handlers before."""
        if self._chosen.fingerprints and letter.fingerprint not in self._chosen.fingerprints:
            return []
        handlers, why = self._handlers(letter)
        if why:
            known = why in self.totals.unknown or len(self.totals.unknown) < _MOST_REASONS
            self.totals.unknown[why if known else "for other reasons"] += 1
        if not handlers or self.full:
            return []
        key = key_of_letter(letter)
        missing = [handler for handler in handlers if key not in self._before[handler.name]]
        if not missing:
            self.totals.before += 1
            return []
        if letter.redrive_count >= self._chosen.most_redrives:
            self.totals.guarded += 1
            return []
        self.totals.letters += 1
        for handler in missing:
            self._before[handler.name].add(key)
            self.totals.deliveries[handler.name, self._topics[letter.topic]] += 1
        return missing

    def _handlers(self, letter: Letter) -> tuple[list[Handler], str]:
        """Whose letter it is, or why it is nobody's.

        What broke its topic's contract is every handler's: one of them wrote the letter for all. Once sent back, each
        of them wrote its own.
        """
        said = letter.headers or {}
        if said.get("pipeline") != self._pipeline.name:
            return [], f"of the pipeline {said.get('pipeline') or '(unknown)'}"
        topic = self._topics.get(letter.topic)
        consuming = self._pipeline.handlers_of(topic) if topic is not None else ()
        if topic is None or not consuming:
            return [], f"from {letter.topic}, which no handler consumes"
        if letter.truncated:
            return [], "cut to fit into the DLQ, and no events any more"
        if letter.reason in _CONTRACT and letter.redrive_count == 0:
            mine = list(consuming)
        else:
            mine = [handler for handler in consuming if handler.name == letter.handler]
            if not mine and self._chosen.handler is not None and letter.handler not in self._pipeline.handlers:
                mine = list(consuming)
            if not mine:
                return [], f"of {letter.handler}, which does not consume {topic}"
        return [h for h in mine if self._chosen.handler in (None, h.name)], ""
