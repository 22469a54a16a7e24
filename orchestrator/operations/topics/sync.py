"""Bringing the cluster's topics in line with the pipeline file: what is checked first, and how it can end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import BrokerError, DriftError, FindingsError, IncompatibleError, KpipeError
from orchestrator.records import Permission

if TYPE_CHECKING:
    from orchestrator.config import Loaded
    from orchestrator.config.model import Pipeline
    from orchestrator.kafka.clients import TopicAdmin
    from orchestrator.operations.loading import Project
    from orchestrator.operations.schemas.diff import Compared
    from orchestrator.provisioning.apply import Failure, Progress
    from orchestrator.provisioning.consent import Allowed
    from orchestrator.provisioning.plan import Plan
    from orchestrator.provisioning.survey import Survey
    from orchestrator.records import Finding


def check(plan: Plan) -> None:
    """Raises DriftError when anything differs, BrokerError when part of the cluster is not known."""
    if plan.changes:
        count = len({change.topic for change in plan.changes})
        raise DriftError(
            f"{count} topic{'s differ' if count > 1 else ' differs'} from the pipeline file",
            "`kpipe topics sync` makes the cluster as declared",
        )
    raise_if_unknown(plan)


@dataclass(frozen=True, slots=True)
class BrokenContracts:
    """The contracts that are not compatible with their earlier `version`, a git revision or a folder."""

    version: str
    contracts: tuple[Compared, ...]

    def raise_if_any(self) -> None:
        """Raises IncompatibleError when there is one."""
        if not self.contracts:
            return
        count = len(self.contracts)
        raise IncompatibleError(
            f"{count} {'contract breaks' if count == 1 else 'contracts break'} the compatibility with {self.version}, "
            f"nothing was changed: {', '.join(one.topic for one in self.contracts)}",
            "if that is what you want: " + " ".join(f"--allow incompatible={one.topic}" for one in self.contracts),
        )


def broken_contracts(project: Project, against: str | None, allowed: Collection[Allowed]) -> BrokenContracts:
    """The contracts that break with their earlier version, save those of topics that are allowed to.

    Without `against` the version is what git has committed last; where there is no such thing, nothing is compared.
    """
    from orchestrator.operations.schemas import diff
    from orchestrator.operations.schemas.versions import default_version, version_of

    pipeline = project.pipeline
    version = version_of(against, pipeline.base) if against else default_version(pipeline.base)
    if version is None:
        return BrokenContracts("", ())
    agreed = {word.topic for word in allowed if word.risk == "incompatible"}
    broken = [
        one
        for one in diff.compare_contracts(pipeline, project.files, version)
        if one.breaks("full", strict=False) and pipeline.topics[one.topic].kafka_name not in agreed
    ]
    return BrokenContracts(version.name, tuple(broken))


def verify(plan: Plan, cluster: TopicAdmin, loaded: Loaded, *, lenient: bool) -> list[Finding]:
    """Ask the broker whether it would take the plan. Returns warnings.

    Raises FindingsError when it would not take part of the plan, at the lines that declare it. `lenient`: a permission
    that is missing is a warning and no error, for whoever only looks.
    """
    from orchestrator.provisioning.apply import verify as ask_broker
    from orchestrator.provisioning.execute import forbid

    assert loaded.pipeline is not None
    refused = ask_broker(plan, cluster.admin)
    findings = [_finding(failure, loaded, loaded.pipeline, lenient) for failure in refused]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        if not lenient:
            forbid(refused)
        count = f"{len(errors)} step{'s' if len(errors) > 1 else ''}"
        raise FindingsError(findings, f"Kafka would refuse {count} of the plan, nothing was changed")
    return findings


def apply(
    seen: Survey,
    cluster: TopicAdmin,
    progress: Progress = lambda _action, _done, _total: None,
    unrecorded: Callable[[str], None] = lambda _why: None,
) -> bool:
    """Apply the plan and wait until every partition has a leader. Whether anything was changed.

    `unrecorded` gets why the claims on topics could not be kept. Raises KpipeError when Kafka did not take part of the
    plan, BrokerError, WaitTimeout.
    """
    from orchestrator.provisioning.execute import carry_out, forbid

    outcome, why = carry_out(seen, cluster.admin, cluster.claims, progress=progress)
    if why and outcome.applied:
        unrecorded(why)
    if outcome.failed:
        if not outcome.applied:
            forbid(outcome.failed)
        reasons = "".join(f"\n  {failure}" for failure in outcome.failed)
        rest = "everything else was applied" if outcome.applied else "nothing was changed"
        raise KpipeError(
            f"Kafka did not take {'part of ' if outcome.applied else ''}the plan:{reasons}",
            f"{rest}; running the same command again goes on from there",
        )
    raise_if_unknown(seen.plan)
    return bool(outcome.applied)


def raise_if_unknown(plan: Plan) -> None:
    if plan.unknown:
        operations = {"topic": "DESCRIBE", "configs": "DESCRIBE_CONFIGS"}
        missing = [Permission(operations.get(u.what, "DESCRIBE"), "topic", u.topic) for u in plan.unknown]
        named = "; ".join(f"{unknown.topic}: {unknown.what}: {unknown.reason}" for unknown in plan.unknown)
        raise BrokerError(
            f"part of the cluster could not be compared ({named})",
            f"kpipe needs {', '.join(map(str, missing))}: docs/security.md",
        )


def _finding(failure: Failure, loaded: Loaded, pipeline: Pipeline, lenient: bool) -> Finding:
    name = next((name for name, topic in pipeline.topics.items() if topic.kafka_name == failure.topic), failure.topic)
    forbidden = failure.refusal.code in ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED")
    return loaded.finding(
        "broker",
        _place(failure, name, pipeline),
        f"{failure.topic}: Kafka would refuse this: {failure.refusal.message}",
        f"kpipe needs {failure.permission}: docs/security.md" if forbidden else "",
        "warning" if forbidden and lenient else "error",
    )


def _place(failure: Failure, name: str, pipeline: Pipeline) -> tuple[str | int, ...]:
    """Where the file says what the broker would not take, as far as its message tells."""
    for place in _places(failure, name, pipeline):
        holder: Any = pipeline.tree
        for step in place:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if holder is not None:
            return place
    return ("topics", name)


def _places(failure: Failure, name: str, pipeline: Pipeline) -> Iterator[tuple[str, ...]]:
    topic = pipeline.topics.get(name)
    kind = "dlq" if topic is not None and topic.is_dlq else "topic"
    for key in sorted(topic.configs if topic else (), key=len, reverse=True):
        if key in failure.refusal.message:
            option = {"retention.ms": ("retention",), "cleanup.policy": ("cleanup",)}.get(key)
            for holder in (("topics", name), ("defaults", kind)):
                yield (*holder, "configs", key)
                if option is not None:
                    yield (*holder, *option)
    numbered = {"INVALID_REPLICATION_FACTOR": "replication", "INVALID_PARTITIONS": "partitions"}
    option_name = numbered.get(failure.refusal.code)
    if option_name is not None:
        yield ("topics", name, option_name)
        yield ("defaults", kind, option_name)
    yield ("topics", name)
    for source in topic.dlq_for if topic else ():
        yield ("topics", source, "dlq")
