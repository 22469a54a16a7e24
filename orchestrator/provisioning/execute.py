"""From a plan that was agreed to, to topics that can be used: apply, wait for leaders, keep the claims.

Claims are written last, from what is then there: one that is missing means that a topic is not removed by a later
`--prune`, never that a topic of somebody else is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from orchestrator.config.model import Pipeline
from orchestrator.errors import BrokerError, ForbiddenError, UsageError, WaitTimeout
from orchestrator.provisioning import consent
from orchestrator.provisioning.apply import Admin, ApplyResult, Failure, Progress, apply, verify
from orchestrator.provisioning.ownership import Done, updates
from orchestrator.provisioning.plan import Plan
from orchestrator.provisioning.survey import Observed, Registry, Survey, survey
from orchestrator.provisioning.visibility import Seen, await_gone, await_leaders
from orchestrator.records import ClusterState, Permission


class SyncTarget(Admin, Seen, Protocol):
    """What a plan is carried out on."""


class Cluster(SyncTarget, Observed, Protocol):
    """All that a sync needs of a cluster."""


class Result(NamedTuple):
    """`unrecorded`: why the claims could not be kept, or ""."""

    outcome: ApplyResult
    unrecorded: str


def carry_out(
    seen: Survey,
    admin: SyncTarget,
    registry: Registry,
    *,
    sleep: Callable[[float], None] = time.sleep,
    progress: Progress = lambda _action, _done, _total: None,
) -> Result:
    """Do what the plan of `seen` says and wait until the topics can be used.

    A plan without changes sends no write. Raises UsageError for a refused plan, BrokerError when Kafka goes away,
    WaitTimeout when leaders do not appear; what was done until then is on record.
    """
    outcome = apply(seen.plan, seen.declared, admin, sleep=sleep, progress=progress)
    failed = {failure.topic for failure in outcome.failed}
    usable = [spec for spec in seen.declared if spec.name not in failed]
    try:
        state = await_leaders(
            usable,
            admin,
            known=None if outcome.applied else seen.actual,
            applied=outcome.applied,
            progress=lambda done, total: progress("wait", done, total),
        )
        await_gone([change.topic for change in outcome.applied if change.action == "delete"], admin)
        progress("wait", len(usable), len(usable))
    except WaitTimeout:
        _record(seen, outcome, admin.describe([spec.name for spec in seen.declared]), registry)
        raise
    return Result(outcome, _record(seen, outcome, state, registry))


def sync_for_up(
    pipeline: Pipeline, admin: Cluster, registry: Registry, say: Callable[[str], None] = lambda _text: None
) -> Plan:
    """Make the cluster as `pipeline` declares and wait until its topics can be used; returns what was applied.

    Raises UsageError for a plan that is refused, that has a risk, or that the broker would not take (nothing is
    written then), BrokerError when Kafka refuses a step or does not let us see a topic, WaitTimeout when leaders do
    not appear. Configs that may not be read are left alone: `unknown` of the result names them. `say` gets
    what cannot be known or kept: who owns the topics, and the sizes of their records.
    """
    seen = survey(pipeline, admin, registry)
    wanted = seen.plan
    wanted.raise_if_refused()
    for note in seen.notes:
        say(f"topics: {note}")
    if wanted.hidden:
        if forbidden := sorted(seen.actual.forbidden):
            raise ForbiddenError(Permission("DESCRIBE", "topic", topic) for topic in forbidden)
        raise BrokerError(
            "Kafka does not let kpipe see " + "; ".join(f"{u.topic} ({u.reason})" for u in wanted.hidden),
            "`kpipe topics sync --dry-run` shows what is known of the others",
        )
    consent.require(wanted, ())
    if refused := verify(wanted, admin):
        forbid(refused)
        raise UsageError(
            "Kafka would refuse part of the plan, nothing was changed: " + "; ".join(map(str, refused)),
            "`kpipe topics sync --dry-run` shows the whole plan, and the lines of the file",
        )
    outcome, unrecorded = carry_out(seen, admin, registry)
    if unrecorded:
        say(f"topics: who owns them is not on record: {unrecorded}")
    if outcome.failed:
        raise BrokerError(
            "Kafka refused part of the plan: " + "; ".join(map(str, outcome.failed)),
            "`kpipe topics sync` does the same step alone and shows the whole plan",
        )
    return wanted


def forbid(refused: Sequence[Failure]) -> None:
    """Raises ForbiddenError when permissions are all that is missing."""
    missing = [failure.permission for failure in refused]
    if refused and all(missing):
        raise ForbiddenError(dict.fromkeys(missing))


def _record(seen: Survey, outcome: ApplyResult, state: ClusterState, registry: Registry) -> str:
    if seen.claims.why_unknown:
        return seen.claims.why_unknown
    void = seen.claims.void(seen.declared, seen.actual) if seen.plan.pruned else ()
    done = Done(
        created={c.topic for c in outcome.applied if c.action == "create"},
        removed={c.topic for c in outcome.applied if c.action == "delete"} | set(void),
        taken_over={c.topic for c in outcome.applied if c.action == "takeover"},
    )
    changed = updates(seen.claims, seen.declared, state, done)
    return registry.write(changed) if changed else ""
