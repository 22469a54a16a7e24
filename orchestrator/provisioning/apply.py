"""Making a plan real through an `Admin`: verified first, then in batches, item by item.

Rules:
- Everything that does not depend on a failed item is done; every failed one is named with the broker's reason.
- An empty plan sends no write.
- `verify` asks the broker about every step before the first of them is done.
- A topic that somebody else created meanwhile is planned again, once; of that second plan only what is safe is
  done, because nobody has seen the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from orchestrator.provisioning.plan import Action, Change, Plan, plan
from orchestrator.records import ClusterState, Permission, Refusal, TopicSpec

#: KRaft's controller refuses a request that would write over 10,000 records (one a partition, a topic and a config).
RECORDS_PER_REQUEST = 5_000
#: Seconds between two looks at topics that somebody else just created.
_LOOK_EVERY = 0.2
_LOOKS_AT_RACED = 10

_PERMISSIONS: Mapping[Action, str] = {
    "create": "CREATE",
    "grow": "ALTER",
    "config": "ALTER_CONFIGS",
    "delete": "DELETE",
}

_EXISTS = "TOPIC_ALREADY_EXISTS"
_CHANGED = Refusal("CHANGED_MEANWHILE", "somebody else created it meanwhile, and differently: run this again")

Results = Mapping[str, Refusal | None]
#: Told how far the writes are: what is being done, topics done, topics in all.
Progress = Callable[[Action | Literal["wait"], int, int], None]


class Admin(Protocol):
    """The cluster, as provisioning needs it. Writes return for every topic None (done) or the broker's refusal."""

    def describe(self, names: Sequence[str], /) -> ClusterState: ...

    def create(self, topics: Sequence[TopicSpec], /, *, validate: bool = False) -> Results:
        """`validate` here and below: only ask whether the broker would take it."""
        ...

    def grow(self, totals: Mapping[str, int], /, *, validate: bool = False) -> Results:
        """`totals`: topic -> partitions it shall have in all."""
        ...

    def alter(self, configs: Mapping[str, Mapping[str, str | None]], /, *, validate: bool = False) -> Results:
        """Set these configs (None: back to the broker's default) and leave all others as they are."""
        ...

    def delete(self, names: Sequence[str], /) -> Results: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """One step of a plan that the broker did not take."""

    action: Action
    topic: str
    refusal: Refusal

    def __str__(self) -> str:
        return f"{self.topic}: {self.action}: {self.refusal.message} ({self.refusal.code})"

    @property
    def permission(self) -> Permission | None:
        """The permission that is missing, if that is what it is about."""
        wanted = _PERMISSIONS.get(self.action)
        refused = self.refusal.code in ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED")
        return Permission(wanted, "topic", self.topic) if wanted is not None and refused else None


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What became of a plan, change by change."""

    applied: tuple[Change, ...] = ()
    failed: tuple[Failure, ...] = ()


def look(declared: Sequence[TopicSpec], admin: Admin) -> Plan:
    """Ask the cluster and plan."""
    return plan(declared, admin.describe([spec.name for spec in declared]))


def verify(wanted: Plan, admin: Admin) -> tuple[Failure, ...]:
    """What the broker would not take of `wanted`; nothing is changed.

    A topic that somebody else created meanwhile is no failure: `apply` plans it again. Deletions cannot be asked
    about. Raises BrokerError when Kafka goes away.
    """
    answers = [answer for step in _steps(wanted, admin, validate=True) if step.asked for answer in step.send()]
    return tuple(failure for failure in answers if failure is not None and failure.refusal.code != _EXISTS)


def apply(
    wanted: Plan,
    declared: Sequence[TopicSpec],
    admin: Admin,
    *,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress = lambda _action, _done, _total: None,
) -> ApplyResult:
    """Do what `wanted` says, except for taking topics over: that is a matter of claims.

    `declared` is what the plan was made from: topics that appeared meanwhile are planned again from it. Raises
    UsageError before any write when the plan is refused, BrokerError when Kafka goes away.
    """
    wanted.raise_if_refused()
    first = _once(wanted, admin, progress)
    raced = [spec for spec in declared if _was_raced(spec, first)]
    if not raced:
        return first
    again = _look_at_raced(raced, admin, sleep)
    second = _once(Plan(tuple(c for c in again.changes if c.risk == "safe" and c.action != "create")), admin, progress)
    unseen = {c.topic: Failure(c.action, c.topic, _CHANGED) for c in again.changes if c.risk != "safe"}
    return ApplyResult(
        applied=first.applied + second.applied,
        failed=(*_without(first.failed, raced, again), *second.failed, *unseen.values()),
    )


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


@dataclass(frozen=True, slots=True)
class _Step:
    """One request: what it does to which topics. `asked`: it can be sent to be validated only."""

    action: Action
    topics: tuple[str, ...]
    call: Callable[[], Results]
    asked: bool = True

    def send(self) -> Iterator[Failure | None]:
        """For each topic None, or why it was not done."""
        answers = self.call()
        for topic in self.topics:
            refusal = answers[topic]
            yield None if refusal is None else Failure(self.action, topic, refusal)


def _steps(wanted: Plan, admin: Admin, *, validate: bool = False) -> Iterator[_Step]:
    """The requests of a plan in their order, each within the controller's limit."""
    for group in chunks(wanted.creates()):
        names = tuple(spec.name for spec in group)
        yield _Step("create", names, partial(admin.create, group, validate=validate))
    for totals in _growth(wanted):
        yield _Step("grow", tuple(totals), partial(admin.grow, totals, validate=validate))
    for configs in _configs(wanted):
        yield _Step("config", tuple(configs), partial(admin.alter, configs, validate=validate))
    removed = [TopicSpec(change.topic, int(change.old or 0), 0) for change in wanted.of("delete")]
    for group in chunks(removed):
        names = tuple(spec.name for spec in group)
        yield _Step("delete", names, partial(admin.delete, names), asked=False)


def _once(wanted: Plan, admin: Admin, progress: Progress) -> ApplyResult:
    failed: list[Failure] = []
    totals: Counter[Action] = Counter(a for a, _ in dict.fromkeys((c.action, c.topic) for c in wanted.changes))
    done: Counter[Action] = Counter()
    for step in _steps(wanted, admin):
        progress(step.action, done[step.action], totals[step.action])
        failed += [failure for failure in step.send() if failure is not None]
        done[step.action] += len(step.topics)
        progress(step.action, done[step.action], totals[step.action])
    refused = {(failure.action, failure.topic) for failure in failed}
    return ApplyResult(tuple(c for c in wanted.changes if (c.action, c.topic) not in refused), tuple(failed))


def _was_raced(spec: TopicSpec, outcome: ApplyResult) -> bool:
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
    added = [TopicSpec(c.topic, int(c.new or 0) - int(c.old or 0), 0) for c in wanted.of("grow")]
    totals = {c.topic: int(c.new or 0) for c in wanted.of("grow")}
    for group in chunks(added):
        yield {spec.name: totals[spec.name] for spec in group}


def _configs(wanted: Plan) -> Iterator[dict[str, dict[str, str | None]]]:
    """Topic -> configs, in groups that change at most `RECORDS_PER_REQUEST` configs each."""
    configs: dict[str, dict[str, str | None]] = {}
    for change in wanted.of("config"):
        configs.setdefault(change.topic, {})[change.field] = None if change.new is None else str(change.new)
    for group in chunks([TopicSpec(topic, len(values), 0) for topic, values in configs.items()]):
        yield {spec.name: configs[spec.name] for spec in group}
