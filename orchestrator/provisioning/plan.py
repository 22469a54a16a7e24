"""What has to change on the cluster so that it is as declared: a pure function from two values to a third.

Rules that every line here keeps:
- A plan is its changes and nothing else: what was shown, printed as JSON or agreed to is what is applied.
- Only a topic's own configs (DYNAMIC_TOPIC_CONFIG) count as set. Declaring today's default is a change: it
  pins the value.
- Only declared keys are compared. A key taken out of the file goes back to the broker's default if this pipeline's
  claim says that it was set by it; any other stays as it is.
- A topic that could not be described is unknown, never absent.
- Nothing is removed unless asked to, and then only what this pipeline created (`ownership`).
- Nothing is ever recreated: what Kafka cannot change in place (fewer partitions) or what needs data moved
  (another replication factor) is refused, and a plan with a refused change is refused as a whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from orchestrator.config.model import Pipeline, Topic
from orchestrator.errors import UsageError
from orchestrator.provisioning.configs import loses_data, same, typed
from orchestrator.provisioning.ownership import Claims
from orchestrator.records import ClusterState, TopicSpec, TopicState

Action = Literal["create", "grow", "config", "shrink", "replication", "delete", "takeover"]
Risk = Literal["safe", "reorders", "data-loss", "in-use", "takeover", "refused"]

PARTITIONS = "partitions"
OWNER = "owner"
REPLICATION = "replication"
MIN_ISR = "min.insync.replicas"


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one topic. `old` is None for a new topic and for a config that is not set on the topic.

    `field` is `partitions`, `replication`, `owner` or a config's name: ints for the first two, names of pipelines
    for the third, the broker's text for configs. `new` is None for a config that goes back to the broker's default,
    and for a topic that is deleted.
    """

    action: Action
    topic: str
    field: str
    old: int | str | None
    new: int | str | None
    risk: Risk = "safe"

    def as_json(self) -> dict[str, int | str | None]:
        """The shape of docs/json.md."""
        return {
            "action": self.action,
            "topic": self.topic,
            "field": self.field,
            "old": self.old,
            "new": self.new,
            "risk": self.risk,
        }


@dataclass(frozen=True, slots=True)
class Unknown:
    """What the cluster did not let us see of a topic: all of it (`topic`) or its `configs`, and why."""

    topic: str
    what: Literal["topic", "configs"]
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An ordered set of changes; building an inconsistent one raises ValueError.

    `cluster_id`, `owner` and `topics` (name -> topic id, "" for one that does not exist) say what it was made for.
    `pruned`: topics that the file does not declare any more were looked for. `left_over` are those that were found
    on record and are not removed by this plan.
    """

    changes: tuple[Change, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    cluster_id: str = ""
    owner: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)
    pruned: bool = False
    left_over: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen = Counter((change.topic, change.field) for change in self.changes)
        twice = [f"{topic}: {name}" for (topic, name), count in seen.items() if count > 1]
        created = {change.topic for change in self.changes if change.action == "create"}
        both = [c.topic for c in self.changes if c.action != "create" and c.topic in created]
        idle = [f"{c.topic}: {c.field}" for c in self.changes if c.old == c.new and c.risk != "refused"]
        for what, names in (("twice", twice), ("created and changed", both), ("no change", idle)):
            if names:
                raise ValueError(f"inconsistent plan, {what}: {', '.join(names)}")

    @property
    def is_empty(self) -> bool:
        """Nothing differs, as far as the cluster let us see (`unknown` is not counted)."""
        return not self.changes

    @property
    def refused(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.risk == "refused")

    @property
    def hidden(self) -> tuple[Unknown, ...]:
        """The topics that the cluster would not describe at all."""
        return tuple(unknown for unknown in self.unknown if unknown.what == "topic")

    def raise_if_refused(self) -> None:
        """Raises UsageError naming every refused change."""
        if not self.refused:
            return
        named = "; ".join(f"{c.topic}: {c.field} {c.old} -> {c.new}" for c in self.refused)
        raise UsageError(
            f"the plan is refused, nothing was changed ({named})",
            "kpipe never removes partitions, moves replicas or recreates a topic: "
            "change the file, or give the topic a new name",
        )

    def of(self, action: Action) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.action == action)

    def creates(self) -> tuple[TopicSpec, ...]:
        """The topics to create, put together from the plan's own `create` changes, in order."""
        fields: dict[str, dict[str, int | str | None]] = {}
        for change in self.of("create"):
            fields.setdefault(change.topic, {})[change.field] = change.new
        return tuple(_spec(topic, values) for topic, values in fields.items())

    def totals(self) -> dict[str, int]:
        """Topics by what happens to them: `create`, `grow`, `config`, and `refused` (counted there only)."""
        refused = {change.topic for change in self.refused}
        counted = {
            action: len({c.topic for c in self.of(action)} - refused)
            for action in get_args(Action)
            if action not in ("shrink", "replication", "takeover")
        }
        return counted | {"refused": len(refused)}


def specs(pipeline: Pipeline) -> tuple[TopicSpec, ...]:
    """The pipeline's topics as the cluster should have them, DLQs included, in the file's order.

    A topic with a `key` has keys, and so has a DLQ, which takes the keys of what it serves.
    """
    return tuple(
        TopicSpec(topic.kafka_name, topic.partitions, topic.replication, topic.configs, _keyed(pipeline, topic))
        for topic in pipeline.topics.values()
    )


def plan(
    declared: Sequence[TopicSpec],
    actual: ClusterState,
    claims: Claims | None = None,
    *,
    prune: bool = False,
    cluster_id: str = "",
) -> Plan:
    """The changes that make `actual` what is `declared`; empty when it is.

    With `prune`, `actual` has to answer for `claims.left_over(declared)` too.
    """
    claims = claims or Claims()
    changes: list[Change] = []
    unknown: list[Unknown] = []
    for spec in declared:
        state = actual.topics.get(spec.name)
        if spec.name in actual.unknown:
            unknown.append(Unknown(spec.name, "topic", actual.unknown[spec.name]))
        elif state is None:
            changes += _create(spec)
        else:
            changes += _alter(spec, state, claims)
            if state.overrides is None:
                unknown.append(Unknown(spec.name, "configs", "not allowed to read its configs"))
    left_over = claims.left_over(declared)
    if prune:
        removed = [state for name in left_over if (state := actual.topics.get(name)) and claims.may_remove(state)]
        unknown += [Unknown(n, "topic", actual.unknown[n]) for n in left_over if n in actual.unknown]
        changes += [Change("delete", state.name, PARTITIONS, state.partitions, None, "data-loss") for state in removed]
        left_over = ()
    asked = [*(spec.name for spec in declared), *(c.topic for c in changes if c.action == "delete")]
    ids = {name: actual.topics[name].topic_id if name in actual.topics else "" for name in asked}
    return Plan(tuple(changes), tuple(unknown), cluster_id, claims.owner, ids, prune, left_over)


def _keyed(pipeline: Pipeline, topic: Topic) -> bool:
    return topic.key is not None or any(pipeline.topics[source].key is not None for source in topic.dlq_for)


def _spec(topic: str, values: Mapping[str, int | str | None]) -> TopicSpec:
    configs = {name: str(value) for name, value in values.items() if name not in (PARTITIONS, REPLICATION)}
    return TopicSpec(topic, int(values[PARTITIONS] or 0), int(values[REPLICATION] or 0), configs)


def _create(spec: TopicSpec) -> Iterator[Change]:
    yield Change("create", spec.name, PARTITIONS, None, spec.partitions)
    yield Change("create", spec.name, REPLICATION, None, spec.replication)
    for key, value in sorted(spec.configs.items()):
        refused = _unreachable_isr(key, value, spec.replication)
        yield Change("create", spec.name, key, None, value, "refused" if refused else "safe")


def _alter(spec: TopicSpec, state: TopicState, claims: Claims) -> Iterator[Change]:
    rival, mine = claims.rival(state), claims.mine(state)
    if rival is not None:
        yield Change("takeover", spec.name, OWNER, rival.owner, claims.owner, "takeover")
    if spec.partitions > state.partitions:
        risk: Risk = "reorders" if spec.keyed else "safe"
        yield Change("grow", spec.name, PARTITIONS, state.partitions, spec.partitions, risk)
    elif spec.partitions < state.partitions:
        yield Change("shrink", spec.name, PARTITIONS, state.partitions, spec.partitions, "refused")
    if spec.replication != state.replication:
        yield Change("replication", spec.name, REPLICATION, state.replication, spec.replication, "refused")
    for key, value in sorted(spec.configs.items()):
        yield from _config(state, key, value)
    for key in sorted(set(mine.configs if mine else ()) - spec.configs.keys()):
        yield from _unset(state, key)


def _config(state: TopicState, key: str, new: str) -> Iterator[Change]:
    if state.overrides is None:
        return
    old = state.overrides.get(key)
    if _unreachable_isr(key, new, state.replication):
        # Also when it is already so: no producer that waits for acks=all can write to this topic.
        yield Change("config", state.name, key, old, new, "refused")
    elif old is None or not same(key, old, new):
        in_force = state.defaults.get(key) if old is None else old
        risk: Risk = "data-loss" if loses_data(key, in_force, new) else "safe"
        yield Change("config", state.name, key, old, new, risk)


def _unset(state: TopicState, key: str) -> Iterator[Change]:
    """A key that this pipeline set and its file does not name any more."""
    old = (state.overrides or {}).get(key)
    if old is not None:
        risk: Risk = "data-loss" if loses_data(key, old, state.defaults.get(key)) else "safe"
        yield Change("config", state.name, key, old, None, risk)


def _unreachable_isr(key: str, value: str, replication: int) -> bool:
    if key != MIN_ISR:
        return False
    wanted = typed(key, value)
    return isinstance(wanted, int) and wanted > replication
