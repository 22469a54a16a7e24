"""Which risks of a plan somebody has to name before it is applied. Pure functions.

A risk is allowed for one topic at a time: `reorders=orders.created`. What may be taken for granted needs no word,
and what can hurt never follows from a general yes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

from orchestrator.config.model import Pipeline
from orchestrator.errors import UsageError
from orchestrator.provisioning.plan import Change, Plan, Risk

#: What can be allowed: the risks of a plan, and a contract that breaks its compatibility.
Named = Risk | Literal["incompatible"]
NAMED: dict[Named, str] = {
    "reorders": "keys move to other partitions, so order is not kept across the change",
    "data-loss": "records can be lost",
    "in-use": "a topic that is still read is deleted",
    "takeover": "a topic is taken from another pipeline",
    "incompatible": "events that one version of the contract allows break the other",
}


class Allowed(NamedTuple):
    """One word of consent; `topic` is the cluster's name."""

    risk: Named
    topic: str

    def __str__(self) -> str:
        return f"{self.risk}={self.topic}"


def parse(words: Iterable[str], pipeline: Pipeline) -> frozenset[Allowed]:
    """`RISK=TOPIC`, the topic by its name in the file or on the cluster. Raises UsageError."""
    return frozenset(_parse(word, pipeline) for word in words)


def missing(plan: Plan, allowed: Collection[Allowed]) -> tuple[Allowed, ...]:
    """What has to be allowed in addition before `plan` may be applied, in the plan's order."""
    needed = [Allowed(change.risk, change.topic) for change in plan.changes if change.risk in NAMED]
    return tuple(word for word in dict.fromkeys(needed) if word not in allowed)


def require(plan: Plan, allowed: Collection[Allowed], *, only: Sequence[Named] = tuple(NAMED)) -> None:
    """Raises UsageError with the command that would do it, unless every risk among `only` is allowed."""
    words = [word for word in missing(plan, allowed) if word.risk in only]
    if not words:
        return
    said = "; ".join(f"{word.topic}: {_why(plan, word)}" for word in words[:5])
    more = f"; and {len(words) - 5} more" if len(words) > 5 else ""
    options = " ".join(f"--allow {word}" for word in [*sorted(allowed), *words])
    raise UsageError(
        f"the plan has risks that have to be allowed by name, nothing was changed ({said}{more})",
        f"if that is what you want: `kpipe topics sync {'--prune ' if plan.pruned else ''}{options}`",
    )


def _why(plan: Plan, word: Allowed) -> str:
    fields = [_field(c) for c in plan.changes if c.topic == word.topic and c.risk == word.risk]
    return f"{', '.join(fields)}: {NAMED[word.risk]}"


def _field(change: Change) -> str:
    if change.action == "delete":
        return "deleted"
    new = "default" if change.new is None else change.new
    return f"{change.field} {'default' if change.old is None else change.old} -> {new}"


def _parse(word: str, pipeline: Pipeline) -> Allowed:
    risk, separator, topic = word.partition("=")
    known = next((name for name in NAMED if name == risk), None)
    if known is None or not separator or not topic:
        raise UsageError(
            f"--allow {word}: not RISK=TOPIC with one of the risks {', '.join(NAMED)}",
            "for example: --allow reorders=orders.created",
        )
    declared = pipeline.topics.get(topic)
    return Allowed(known, topic if declared is None else declared.kafka_name)
