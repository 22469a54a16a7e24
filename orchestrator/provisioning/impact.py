"""Whom a plan hits: the handlers of the file, the consumer groups of the cluster, the records. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.config.model import Pipeline
from orchestrator.provisioning.plan import PARTITIONS, Change, Plan
from orchestrator.records import GroupUse, TopicUse

RETENTION = "retention.ms"
_HURTING = ("reorders", "data-loss", "in-use")


@dataclass(frozen=True, slots=True)
class HandlerHit:
    """A handler on a changed topic. `idle`: replicas that get no partition of it, before and after; 0 for producers."""

    handler: str
    role: Literal["consumes", "produces"]
    replicas: int
    idle_before: int
    idle_after: int

    def as_json(self) -> dict[str, object]:
        """The shape of docs/json.md."""
        return {
            "handler": self.handler,
            "role": self.role,
            "replicas": self.replicas,
            "idle_before": self.idle_before,
            "idle_after": self.idle_after,
        }


@dataclass(frozen=True, slots=True)
class Impact:
    """One topic of the plan whose changes are not all safe. `groups` and `records` are None when not known.

    `hidden`: there may be groups besides that this user may not see.
    """

    topic: str
    handlers: tuple[HandlerHit, ...]
    groups: tuple[GroupUse, ...] | None
    records: int | None
    hidden: bool = False

    def as_json(self) -> dict[str, object]:
        """The shape of docs/json.md."""
        groups = None if self.groups is None else [group._asdict() for group in self.groups]
        return {
            "topic": self.topic,
            "handlers": [handler.as_json() for handler in self.handlers],
            "groups": groups,
            "groups_hidden": self.hidden,
            "records": self.records,
        }


def asked_about(plan: Plan) -> tuple[str, ...]:
    """The topics whose readers and records have to be known before this plan can be judged."""
    return tuple(dict.fromkeys(change.topic for change in plan.changes if change.risk in _HURTING))


def kept_from(plan: Plan, now: int) -> dict[str, int]:
    """Where only what is older than a new retention is at stake: topic -> milliseconds since the epoch."""
    risky: dict[str, list[Change]] = {}
    for change in plan.changes:
        if change.risk in _HURTING:
            risky.setdefault(change.topic, []).append(change)
    return {
        topic: now - int(str(changes[0].new))
        for topic, changes in risky.items()
        if len(changes) == 1 and changes[0].field == RETENTION and str(changes[0].new).isdecimal()
    }


def judged(plan: Plan, use: Mapping[str, TopicUse]) -> Plan:
    """The plan with the removal of what is still read told apart from the removal of what is not."""
    return replace(plan, changes=tuple(_judged(change, use) for change in plan.changes))


def impact(plan: Plan, use: Mapping[str, TopicUse], pipeline: Pipeline) -> tuple[Impact, ...]:
    """One for each topic of `asked_about`, in the plan's order."""
    names = {topic.kafka_name: name for name, topic in pipeline.topics.items()}
    return tuple(
        Impact(topic, _handlers(plan, topic, names.get(topic), pipeline), *use[topic])
        for topic in asked_about(plan)
        if topic in use
    )


def _judged(change: Change, use: Mapping[str, TopicUse]) -> Change:
    if change.action != "delete":
        return change
    groups = use[change.topic].groups if change.topic in use else None
    in_use = groups is None or use[change.topic].hidden or any(group.active or group.lag for group in groups)
    return replace(change, risk="in-use") if in_use else change


def _handlers(plan: Plan, topic: str, name: str | None, pipeline: Pipeline) -> tuple[HandlerHit, ...]:
    if name is None:
        return ()
    grown = next((c for c in plan.changes if c.topic == topic and c.field == PARTITIONS and c.action == "grow"), None)
    after = pipeline.topics[name].partitions
    before = after if grown is None else int(grown.old or 0)
    consuming = [
        HandlerHit(h.name, "consumes", h.replicas, max(0, h.replicas - before), max(0, h.replicas - after))
        for h in pipeline.handlers_of(name)
    ]
    producing = [
        HandlerHit(h.name, "produces", h.replicas, 0, 0) for h in pipeline.handlers.values() if name in h.produces
    ]
    return (*consuming, *producing)
