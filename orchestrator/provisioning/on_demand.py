"""Making topics of redriven letters when the first letter goes back, and putting on record whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.config.model import RECORD_LIMIT, Handler, Pipeline
from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.provisioning.apply import Failure
from orchestrator.provisioning.execute import Cluster
from orchestrator.provisioning.ownership import Claims, Done, owner_of, updates
from orchestrator.provisioning.plan import specs
from orchestrator.provisioning.redrive_topics import redrive_spec
from orchestrator.provisioning.survey import Registry, measured
from orchestrator.provisioning.visibility import await_leaders
from orchestrator.records import ClusterState, TopicSpec

_EXISTS = "TOPIC_ALREADY_EXISTS"


class CreatedTopics(NamedTuple):
    """`limits`: the most bytes that each of the topics takes, by its name. `notes`: what is worth knowing."""

    limits: Mapping[str, int]
    notes: tuple[str, ...]


def make(handlers: Sequence[Handler], pipeline: Pipeline, admin: Cluster, registry: Registry) -> CreatedTopics:
    """Make the topics of these handlers that are not there, raise the limit of those that take less than their DLQs,
    and wait until all can be written to.

    Raises BrokerError when Kafka refuses to make one, WaitTimeout when leaders do not appear.
    """
    plain = [spec for handler in handlers if (spec := redrive_spec(pipeline, handler)) is not None]
    there = admin.describe([*(topic.kafka_name for topic in pipeline.topics.values()), *(spec.name for spec in plain)])
    sizes = measured(pipeline, admin, there, Claims(owner_of(pipeline)))
    wanted = [sizes.of(spec) for spec in plain]
    limits = {spec.name: int(spec.configs[RECORD_LIMIT]) for spec in wanted}
    refused = _raise_limits(wanted, there, admin)
    for name in refused:
        limits[name] = there.topics[name].record_limit or limits[name]
    missing = [spec for spec in wanted if spec.name not in there.topics]
    unrecorded = _create(missing, pipeline, admin, registry) if missing else ""
    notes = [*refused.values()]
    if unrecorded:
        notes.append(f"who owns the new topics could not be put on record: {unrecorded}")
    return CreatedTopics(limits, tuple(notes))


def _raise_limits(wanted: Sequence[TopicSpec], there: ClusterState, admin: Cluster) -> dict[str, str]:
    """Why the limit of a topic could not be raised, by its name: then only the largest letters cannot go there."""
    narrow: dict[str, dict[str, str]] = {}
    for spec in wanted:
        state = there.topics.get(spec.name)
        if (
            state is not None
            and state.record_limit is not None
            and state.record_limit < int(spec.configs[RECORD_LIMIT])
        ):
            narrow[spec.name] = {RECORD_LIMIT: spec.configs[RECORD_LIMIT]}
    answers = admin.alter(narrow) if narrow else {}
    return {
        name: f"{name} takes {there.topics[name].record_limit} bytes and could not be given the "
        f"{narrow[name][RECORD_LIMIT]} of its DLQs: {refusal.message}"
        for name, refusal in answers.items()
        if refusal is not None
    }


def _create(missing: Sequence[TopicSpec], pipeline: Pipeline, admin: Cluster, registry: Registry) -> str:
    """Why it could not be put on record that they are this pipeline's, or ""."""
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
