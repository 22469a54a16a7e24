"""Making topics of redriven letters when the first letter goes back, and putting on record whose they are."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.model import Pipeline
from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.provisioning.apply import Failure
from orchestrator.provisioning.arrival import await_leaders
from orchestrator.provisioning.ownership import Claims, Done, owner_of, updates
from orchestrator.provisioning.plan import specs
from orchestrator.provisioning.survey import Registry
from orchestrator.provisioning.sync import Target
from orchestrator.records import ClusterState, TopicSpec

_EXISTS = "TOPIC_ALREADY_EXISTS"


def make(wanted: Sequence[TopicSpec], pipeline: Pipeline, admin: Target, registry: Registry) -> str:
    """Make those of `wanted` that are not there, and wait until they can be written to.

    Returns why it could not be put on record that they are this pipeline's, or "". Raises BrokerError when Kafka
    refuses one, WaitTimeout when leaders do not appear.
    """
    there = admin.describe([spec.name for spec in wanted])
    missing = [spec for spec in wanted if spec.name not in there.topics]
    if not missing:
        return ""
    refused = {name: refusal for name, refusal in admin.create(missing).items() if refusal is not None}
    failed = [Failure("create", name, refusal) for name, refusal in refused.items() if refusal.code != _EXISTS]
    if forbidden := [failure.permission for failure in failed if failure.permission is not None]:
        raise ForbiddenError(forbidden)
    for failure in failed:
        raise BrokerError(
            f"{failure.topic}, where letters go back to their handler, cannot be created: {failure.refusal.message}"
        )
    state = await_leaders(missing, admin)
    return _record(pipeline, [spec for spec in missing if spec.name not in refused], state, registry)


def _record(pipeline: Pipeline, made: Sequence[TopicSpec], state: ClusterState, registry: Registry) -> str:
    known, why_unknown = registry.read()
    if why_unknown:
        return why_unknown
    claims = Claims(owner_of(pipeline), known)
    names = {spec.name for spec in made}
    changed = updates(claims, [*specs(pipeline), *made], state, Done(created=names))
    ours = {key: claim for key, claim in changed.items() if key[0] in names}
    return registry.write(ours) if ours else ""
