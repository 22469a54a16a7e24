"""Looking at the cluster and planning: everything that is read, in a number of requests that does not grow.

For a cluster that is as declared: who it is, the claims, the topics, their configs. Only when a change can hurt are
consumer groups and offsets asked for as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.config.model import Pipeline
from orchestrator.errors import BrokerError, UsageError
from orchestrator.provisioning.impact import Impact, asked_about, impact, judged, kept_from
from orchestrator.provisioning.ownership import Claims, Update, owner_of
from orchestrator.provisioning.plan import Plan, plan, specs
from orchestrator.provisioning.redrive_topics import as_they_are, redrive_specs
from orchestrator.provisioning.sizes import Sizes, needs_broker, sizes
from orchestrator.records import CLAIMS_TOPIC, Claim, ClusterState, TopicSpec, TopicUse


class Info(Protocol):
    """Who the cluster is."""

    @property
    def cluster_id(self) -> str: ...


class Observed(Protocol):
    """The cluster, as planning needs it."""

    def cluster(self) -> Info: ...

    def describe(self, names: Sequence[str], /) -> ClusterState: ...

    def record_limit(self) -> int | None:
        """The broker's `message.max.bytes`; None when it may not be asked."""
        ...

    def use(self, partitions: Mapping[str, int], kept_from: Mapping[str, int], /) -> Mapping[str, TopicUse]: ...


class Registry(Protocol):
    """Where claims are kept, for every machine that works with the cluster."""

    def read(self) -> tuple[Mapping[tuple[str, str], Claim], str]:
        """Every claim, and why they could not be read ("" when they could)."""
        ...

    def write(self, claims: Update, /) -> str:
        """Keep these; why it was not possible, or ""."""
        ...


@dataclass(frozen=True, slots=True)
class Survey:
    """A plan with everything that it was made from. `notes`: what is worth knowing about the sizes of records."""

    declared: tuple[TopicSpec, ...]
    actual: ClusterState
    claims: Claims
    plan: Plan
    impact: tuple[Impact, ...]
    notes: tuple[str, ...] = ()


def survey(
    pipeline: Pipeline,
    admin: Observed,
    registry: Registry,
    *,
    prune: bool = False,
    now: Callable[[], float] = time.time,
) -> Survey:
    """Ask the cluster and plan. Raises BrokerError when it cannot be asked, UsageError for a topic that is kpipe's."""
    declared = specs(pipeline)
    if any(spec.name == CLAIMS_TOPIC for spec in declared):
        raise UsageError(f"the topic {CLAIMS_TOPIC} is kpipe's own", "give the topic another name")
    cluster_id = admin.cluster().cluster_id
    known, why_unknown = registry.read()
    if prune and why_unknown:
        raise BrokerError(
            f"which topics this pipeline created is not known, so nothing can be removed: {why_unknown}",
            "--prune needs READ on the topic kpipe.claims: docs/security.md",
        )
    claims = Claims(owner_of(pipeline), known, why_unknown)
    redriven = redrive_specs(pipeline)
    ours = (*declared, *redriven)
    actual = admin.describe([*(spec.name for spec in ours), *(claims.left_over(ours) if prune else ())])
    found = measured(pipeline, admin, actual, claims)
    declared = tuple(map(found.of, (*declared, *as_they_are(redriven, actual))))
    first = plan(declared, actual, claims, prune=prune, cluster_id=cluster_id)
    asked = {name: actual.topics[name].partitions for name in asked_about(first)}
    use = admin.use(asked, kept_from(first, int(now() * 1000))) if asked else {}
    made = judged(first, use)
    return Survey(declared, actual, claims, made, impact(made, use, pipeline), found.notes)


def measured(pipeline: Pipeline, admin: Observed, actual: ClusterState, claims: Claims) -> Sizes:
    """The sizes of records, for which the broker is asked only where no topic shows its limit. Raises BrokerError."""
    return sizes(pipeline, actual, claims, admin.record_limit() if needs_broker(pipeline, actual, claims) else None)
