"""The steps of `kpipe topics sync`: what each shows, and how each can end."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.cli.render import output
from orchestrator.errors import (
    EXIT_OK,
    EXIT_UNEXPECTED,
    BrokerError,
    DriftError,
    FindingsError,
    IncompatibleError,
    KpipeError,
    UsageError,
)
from orchestrator.records import Permission

if TYPE_CHECKING:
    from orchestrator.cli.context import App
    from orchestrator.cli.render.output import Style
    from orchestrator.config import Loaded
    from orchestrator.config.model import Pipeline
    from orchestrator.operations.cluster import Connection
    from orchestrator.provisioning.apply import Failure
    from orchestrator.provisioning.consent import Allowed
    from orchestrator.provisioning.plan import Action, Plan
    from orchestrator.provisioning.survey import Survey
    from orchestrator.records import Finding

_COLORS: dict[str, Style] = {"+": "green", "~": "yellow", "-": "red", "?": "magenta"}
_DOING: dict[Action | Literal["wait"], str] = {
    "create": "Creating topics",
    "grow": "Adding partitions",
    "config": "Changing configs",
    "delete": "Deleting topics",
    "wait": "Waiting for leaders",
}
#: Fewer topics than these are done before anybody could read how far they are.
_WORTH_SHOWING = 50


def show(seen: Survey, *, json: bool, markdown: bool) -> None:
    """The plan, in one of its three forms."""
    from orchestrator.provisioning.plan_file import as_json
    from orchestrator.provisioning.render import as_markdown, as_text

    if json:
        output.json_line(as_json(seen.plan, seen.impact))
    elif seen.plan.is_empty and not seen.plan.unknown:
        output.data("Nothing to do: the topics are as declared.")
    elif markdown:
        output.data(output.safe(as_markdown(seen.plan, seen.impact), lines=True))
    else:
        for line in as_text(seen.plan, seen.impact).splitlines():
            color = _COLORS.get(line[:1]) if line[1:2] == " " else None
            output.data(output.paint(output.safe(line), *([color] if color else [])))


def notes(seen: Survey) -> None:
    """What is not a change and still worth knowing."""
    for note in seen.notes:
        output.say(output.safe(note))
    if seen.claims.why_unknown:
        output.say(f"Who owns the topics is not known: {output.safe(seen.claims.why_unknown)}")
    if left := seen.plan.left_over:
        named = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        output.say(f"Created by this pipeline and no longer in its file: {output.safe(named)} (see --prune)")


def check(plan: Plan) -> int:
    """Raises DriftError when anything differs."""
    if plan.changes:
        count = len({change.topic for change in plan.changes})
        raise DriftError(
            f"{count} topic{'s differ' if count > 1 else ' differs'} from the pipeline file",
            "`kpipe topics sync` makes the cluster as declared",
        )
    raise_if_unknown(plan)
    return EXIT_OK


def ask(plan: Plan) -> bool:
    """Ask on the terminal. Raises UsageError where there is none: silence must not stand for an answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "there is no terminal to ask on, so nothing was changed",
            "add -y to apply this plan, or --dry-run to only see it",
        )
    risks = ", ".join(sorted({change.risk for change in plan.changes} - {"safe"}))
    output.say(f"Apply these changes{f' ({risks})' if risks else ''}? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def compatible(app: App, pipeline: Pipeline, against: str | None, allowed: Collection[Allowed]) -> None:
    """Raises IncompatibleError when a contract breaks with its earlier version, save for topics that are allowed to.

    Without `against` the version is what git has committed last; where there is no such thing, nothing is compared.
    """
    from orchestrator.operations.schemas import diff
    from orchestrator.operations.schemas.versions import default_version, version_of

    version = version_of(against, pipeline.base) if against else default_version(pipeline.base)
    if version is None:
        return
    agreed = {word.topic for word in allowed if word.risk == "incompatible"}
    broken = [
        one
        for one in diff.compare_contracts(pipeline, app.files, version)
        if one.breaks("full", strict=False) and pipeline.topics[one.topic].kafka_name not in agreed
    ]
    if not broken:
        return
    for one in broken:
        for line in diff.lines(one, "full", strict=False):
            output.say(output.safe(line))
    raise IncompatibleError(
        f"{_topics(len(broken), 'contract breaks', 'contracts break')} the compatibility with {version.name}, nothing "
        f"was changed: {', '.join(one.topic for one in broken)}",
        "if that is what you want: " + " ".join(f"--allow incompatible={one.topic}" for one in broken),
    )


def _topics(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def verify(plan: Plan, cluster: Connection, loaded: Loaded, *, lenient: bool) -> None:
    """Raises FindingsError when the broker would not take part of the plan, at the lines that declare it.

    `lenient`: a permission that is missing is shown and is no error, for whoever only looks.
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
    for finding in findings:
        output.say(output.finding_text(finding, stream=sys.stderr))


def apply(seen: Survey, cluster: Connection) -> int:
    """Apply, wait, and say what became of it."""
    from orchestrator.provisioning.execute import carry_out, forbid

    outcome, unrecorded = carry_out(seen, cluster.admin, cluster.claims, progress=_progress)
    if unrecorded and outcome.applied:
        output.say(f"Who owns the topics could not be put on record: {output.safe(unrecorded)}")
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
    if outcome.applied:
        output.say("Done: every partition has a leader.")
    return EXIT_OK


def declined() -> int:
    output.say("Nothing was changed.")
    return EXIT_UNEXPECTED


def raise_if_unknown(plan: Plan) -> None:
    if plan.unknown:
        operations = {"topic": "DESCRIBE", "configs": "DESCRIBE_CONFIGS"}
        missing = [Permission(operations.get(u.what, "DESCRIBE"), "topic", u.topic) for u in plan.unknown]
        named = "; ".join(f"{unknown.topic}: {unknown.what}: {unknown.reason}" for unknown in plan.unknown)
        raise BrokerError(
            f"part of the cluster could not be compared ({named})",
            f"kpipe needs {', '.join(map(str, missing))}: docs/security.md",
        )


def unused(allowed: Sequence[Any], plan: Plan) -> None:
    """An `--allow` that fits nothing may be a slip, and may be a script's second run: it is said, not refused."""
    risks = {(change.risk, change.topic) for change in plan.changes}
    for word in allowed:
        if word not in risks and word.risk != "incompatible":
            output.say(f"--allow {output.safe(str(word))}: nothing in this plan has that risk")


def _progress(action: Action | Literal["wait"], done: int, total: int) -> None:
    if total >= _WORTH_SHOWING:
        output.in_place("" if done == total else f"{_DOING[action]}: {done} of {total}")


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
