"""Making a plan real through an `Admin`: in batches, item by item, and waiting until the topics can be used.

Rules:
- Everything that does not depend on a failed item is done; every failed one is named with the broker's reason.
- An empty plan sends no write.
- A topic that somebody else created meanwhile is planned again, once; of that second plan only what is safe is
  done, because nobody has seen the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.config.model import Pipeline
from orchestrator.errors import BrokerError, WaitTimeout
from orchestrator.provisioning.plan import Action, Change, Plan, plan, specs
from orchestrator.records import ClusterState, Refusal, TopicPartition, TopicSpec, TopicState

#: KRaft's controller refuses a request that would write over 10,000 records (one a partition, a topic and a config).
RECORDS_PER_REQUEST = 5_000
#: Seconds to wait for leaders, and between two looks.
LEADER_DEADLINE = 30.0
_LOOK_EVERY = 0.2
_LOOKS_AT_RACED = 10

_EXISTS = "TOPIC_ALREADY_EXISTS"
_CHANGED = Refusal("CHANGED_MEANWHILE", "somebody else created it meanwhile, and differently: run this again")

Results = Mapping[str, Refusal | None]


class Admin(Protocol):
    """The cluster, as provisioning needs it. Writes return for every topic None (done) or the broker's refusal."""

    def describe(self, names: Sequence[str], /) -> ClusterState: ...

    def serving(self, partitions: Sequence[TopicPartition], /) -> Collection[TopicPartition]:
        """Those of `partitions` whose leader answers for them."""
        ...

    def create(self, topics: Sequence[TopicSpec], /) -> Results: ...

    def grow(self, totals: Mapping[str, int], /) -> Results:
        """`totals`: topic -> partitions it shall have in all."""
        ...

    def alter(self, configs: Mapping[str, Mapping[str, str]], /) -> Results:
        """Set these configs and leave all others as they are."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """One step of a plan that the broker did not take."""

    action: Action
    topic: str
    refusal: Refusal

    def __str__(self) -> str:
        return f"{self.topic}: {self.action}: {self.refusal.message} ({self.refusal.code})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan, change by change."""

    applied: tuple[Change, ...] = ()
    failed: tuple[Failure, ...] = ()


def look(declared: Sequence[TopicSpec], admin: Admin) -> Plan:
    """Ask the cluster and plan."""
    return plan(declared, admin.describe([spec.name for spec in declared]))


def apply(
    wanted: Plan,
    declared: Sequence[TopicSpec],
    admin: Admin,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Do what `wanted` says.

    `declared` is what the plan was made from: topics that appeared meanwhile are planned again from it. Raises
    UsageError before any write when the plan is refused, BrokerError when Kafka goes away.
    """
    wanted.raise_if_refused()
    first = _once(wanted, admin)
    raced = [spec for spec in declared if _was_raced(spec, first)]
    if not raced:
        return first
    again = _look_at_raced(raced, admin, sleep)
    second = _once(Plan(tuple(c for c in again.changes if c.risk == "safe" and c.action != "create")), admin)
    unseen = {c.topic: Failure(c.action, c.topic, _CHANGED) for c in again.changes if c.risk != "safe"}
    return Outcome(
        applied=first.applied + second.applied,
        failed=(*_without(first.failed, raced, again), *second.failed, *unseen.values()),
    )


def await_leaders(
    declared: Sequence[TopicSpec],
    admin: Admin,
    *,
    deadline: float = LEADER_DEADLINE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once every partition of every declared topic has a leader, and that leader answers for it.

    CreateTopics answers before every broker knows of the topic, and the metadata names a leader before it leads.
    Raises WaitTimeout after `deadline` seconds, naming the topics that are not there yet.
    """
    until = clock() + deadline
    while missing := _without_leaders(declared, admin):
        if clock() >= until:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise WaitTimeout(
                f"after {deadline:g} s some partitions still have no leader: {shown}",
                "look at the brokers' logs: too few of them may be alive",
            )
        sleep(_LOOK_EVERY)


def sync_for_up(pipeline: Pipeline, admin: Admin) -> Plan:
    """Make the cluster as `pipeline` declares and wait until its topics can be used; returns what was applied.

    Raises UsageError for a refused plan (nothing is written then), BrokerError when Kafka refuses a step or does
    not let us see a topic, WaitTimeout when leaders do not appear. Configs that may not be read are left alone:
    `unknown` of the result names them.
    """
    declared = specs(pipeline)
    wanted = look(declared, admin)
    wanted.raise_if_refused()
    hidden = wanted.hidden
    if hidden:
        raise BrokerError(
            "Kafka does not let kpipe see " + "; ".join(f"{u.topic} ({u.reason})" for u in hidden),
            "every handler's topics need the permission DESCRIBE, which READ and WRITE imply",
        )
    outcome = apply(wanted, declared, admin)
    if outcome.failed:
        raise BrokerError(
            "Kafka refused part of the plan: " + "; ".join(map(str, outcome.failed)),
            "`kpipe topics sync` does the same step alone and shows the whole plan",
        )
    await_leaders(declared, admin)
    return wanted


def chunks(topics: Sequence[TopicSpec], limit: int = RECORDS_PER_REQUEST) -> Iterator[tuple[TopicSpec, ...]]:
    """`topics` in order, in groups that write at most `limit` records each (a larger topic stands alone)."""
    group: list[TopicSpec] = []
    size = 0
    for topic in topics:
        records = 1 + topic.partitions + len(topic.configs)
        if group and size + records > limit:
            yield tuple(group)
            group, size = [], 0
        group.append(topic)
        size += records
    if group:
        yield tuple(group)


def _once(wanted: Plan, admin: Admin) -> Outcome:
    results: dict[tuple[Action, str], Refusal | None] = {}

    def note(action: Action, answers: Results) -> None:
        results.update({(action, topic): refusal for topic, refusal in answers.items()})

    for group in chunks(wanted.creates()):
        note("create", admin.create(group))
    for totals in _growth(wanted):
        note("grow", admin.grow(totals))
    configs = _configs(wanted)
    if configs:
        note("config", admin.alter(configs))
    steps = dict.fromkeys((change.action, change.topic) for change in wanted.changes)
    refused = {step: why for step in steps if (why := results[step]) is not None}
    return Outcome(
        tuple(c for c in wanted.changes if (c.action, c.topic) not in refused),
        tuple(Failure(action, topic, why) for (action, topic), why in refused.items()),
    )


def _was_raced(spec: TopicSpec, outcome: Outcome) -> bool:
    return any(f.topic == spec.name and f.refusal.code == _EXISTS for f in outcome.failed)


def _look_at_raced(raced: Sequence[TopicSpec], admin: Admin, sleep: Callable[[float], None]) -> Plan:
    """A plan for topics that the controller says exist; the broker that describes them may learn it later."""
    for _ in range(_LOOKS_AT_RACED):
        again = look(raced, admin)
        if not again.of("create") and not again.hidden:
            break
        sleep(_LOOK_EVERY)
    return again


def _without(failed: Sequence[Failure], raced: Sequence[TopicSpec], again: Plan) -> tuple[Failure, ...]:
    """`failed` without the creations that turned out to be done: what could not be seen since stays failed."""
    unseen = {c.topic for c in again.of("create")} | {u.topic for u in again.hidden}
    settled = {spec.name for spec in raced} - unseen
    return tuple(f for f in failed if f.topic not in settled)


def _growth(wanted: Plan) -> Iterator[dict[str, int]]:
    """Topic -> total, in groups that add at most `RECORDS_PER_REQUEST` partitions each."""
    added = [TopicSpec(c.topic, int(c.new) - int(c.old or 0), 0) for c in wanted.of("grow")]
    totals = {c.topic: int(c.new) for c in wanted.of("grow")}
    for group in chunks(added):
        yield {spec.name: totals[spec.name] for spec in group}


def _configs(wanted: Plan) -> dict[str, dict[str, str]]:
    configs: dict[str, dict[str, str]] = {}
    for change in wanted.of("config"):
        configs.setdefault(change.topic, {})[change.field] = str(change.new)
    return configs


def _without_leaders(declared: Sequence[TopicSpec], admin: Admin) -> list[str]:
    """The declared topics that are not usable yet; one that we may not see is not waited for."""
    state = admin.describe([spec.name for spec in declared])
    seen = [spec for spec in declared if spec.name not in state.unknown]
    missing = [spec.name for spec in seen if not _complete(spec, state.topics.get(spec.name))]
    if missing:
        return missing
    wanted = [TopicPartition(spec.name, number) for spec in seen for number in range(spec.partitions)]
    silent = set(wanted).difference(admin.serving(wanted))
    return list(dict.fromkeys(where.topic for where in wanted if where in silent))


def _complete(spec: TopicSpec, topic: TopicState | None) -> bool:
    return topic is not None and not topic.leaderless and topic.partitions >= spec.partitions
