"""Options that only some kinds of handlers have."""

from __future__ import annotations

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.handlers import kind_of
from orchestrator.config.model import Kind

ONLY: dict[str, tuple[Kind, str]] = {
    "headers": ("http", "is for an endpoint that events are posted to"),
    "health": ("http", "is for an endpoint that events are posted to"),
    "interpreter": ("python", "is for a `python:` handler"),
    "unavailable": ("python", "names Python exceptions; others say it in their answers"),
}


def check(facts: PipelineFacts) -> None:
    """Every option that a handler of this kind has no use for."""
    for name, own in facts.handlers.items():
        for option, (kind, why) in ONLY.items():
            if option in own and kind_of(own) != kind and not (option == "unavailable" and "service" in own):
                facts.doc.find("misplaced-key", ("handlers", name, option), f"`{option}` {why}", "remove it", key=True)
