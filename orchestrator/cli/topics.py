"""`kpipe topics`: bring the cluster's topics in line with the pipeline file, and list them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli import present
from orchestrator.cli.context import App
from orchestrator.errors import EXIT_OK, EXIT_UNEXPECTED, BrokerError, DriftError, KpipeError, UsageError

if TYPE_CHECKING:
    from orchestrator.cli.present import Style
    from orchestrator.config.model import Pipeline
    from orchestrator.kafka.admin import ClusterAdmin
    from orchestrator.provisioning.plan import Plan
    from orchestrator.records import ClusterState, TopicSpec

_COLORS: dict[str, Style] = {"+": "green", "~": "yellow", "-": "red", "?": "magenta"}


@click.group("topics")
def command() -> None:
    """Create, change and list the topics of the pipeline file, its DLQs included."""


@command.command("sync")
@click.option("--dry-run", is_flag=True, help="Show what would change, and end.")
@click.option("--check", is_flag=True, help="Change nothing; exit 3 if the cluster is not as declared.")
@click.option("-y", "--yes", is_flag=True, help="Apply without asking, whatever the risk that the plan names.")
@click.pass_obj
def sync(app: App, dry_run: bool, check: bool, yes: bool) -> int:
    """Make the cluster's topics what the pipeline file declares.

    Shows the plan, asks, applies it and waits until every partition has a leader. Nothing is ever deleted:
    fewer partitions or another replication factor is refused, and then nothing is changed at all. Configs that
    the file does not name stay as they are.
    """
    from orchestrator.provisioning.apply import look
    from orchestrator.provisioning.plan import specs

    pipeline = app.load()
    declared = specs(pipeline)
    admin = _admin(app, pipeline)
    plan = look(declared, admin)
    _show(app, plan)
    if check:
        return _check(plan)
    plan.raise_if_refused()
    if dry_run:
        return EXIT_OK
    if not plan.is_empty and not yes and not _agreed(plan):
        present.say("Nothing was changed.")
        return EXIT_UNEXPECTED
    return _apply(plan, declared, admin)


@command.command("ls")
@click.pass_obj
def ls(app: App) -> None:
    """List the pipeline's topics as the cluster has them.

    An absent topic is shown with its declared values. RECORDS counts offsets: transaction markers and what
    compaction removed are in it.
    """
    from orchestrator.provisioning.inventory import inventory

    pipeline = app.load()
    admin = _admin(app, pipeline)
    state = admin.describe([topic.kafka_name for topic in pipeline.topics.values()])
    rows = inventory(pipeline.topics.values(), state, _records(admin, state))
    if app.json:
        present.json_line({"topics": [row.as_json() for row in rows]})
        return
    present.table(
        ("TOPIC", "PARTITIONS", "REPLICATION", "RETENTION", "RECORDS", "STATE"),
        [(r.kafka_name, r.partitions, r.replication, r.retention, r.records, r.state) for r in rows],
    )
    if any(row.state in ("absent", "drift") for row in rows):
        present.say("`kpipe topics sync --dry-run` shows what differs from the pipeline file.")


def _admin(app: App, pipeline: Pipeline) -> ClusterAdmin:
    from orchestrator.kafka.admin import ClusterAdmin
    from orchestrator.kafka.properties import client_properties

    return ClusterAdmin(client_properties(pipeline.kafka, "admin", app.bootstrap(pipeline)))


def _show(app: App, plan: Plan) -> None:
    from orchestrator.provisioning.render import as_json, as_text

    if app.json:
        present.json_line(as_json(plan))
        return
    if plan.is_empty and not plan.unknown:
        present.data("Nothing to do: the topics are as declared.")
        return
    for line in as_text(plan).splitlines():
        color = _COLORS.get(line[:1]) if line[1:2] == " " else None
        present.data(present.paint(present.safe(line), *([color] if color else [])))


def _check(plan: Plan) -> int:
    if plan.changes:
        count = len({change.topic for change in plan.changes})
        raise DriftError(
            f"{count} topic{'s differ' if count > 1 else ' differs'} from the pipeline file",
            "`kpipe topics sync` makes the cluster as declared",
        )
    _raise_if_unknown(plan)
    return EXIT_OK


def _agreed(plan: Plan) -> bool:
    """Ask on the terminal. Raises UsageError where there is none: silence must not stand for an answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "there is no terminal to ask on, so nothing was changed",
            "add -y to apply this plan, or --dry-run to only see it",
        )
    warning = ", which can lose data" if any(change.risk == "data-loss" for change in plan.changes) else ""
    present.say(f"Apply these changes{warning}? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _apply(plan: Plan, declared: Sequence[TopicSpec], admin: ClusterAdmin) -> int:
    from orchestrator.provisioning.apply import apply, await_leaders

    outcome = apply(plan, declared, admin)
    if outcome.failed:
        reasons = "".join(f"\n  {failure}" for failure in outcome.failed)
        rest = "everything else was applied" if outcome.applied else "nothing was changed"
        raise KpipeError(f"Kafka did not take {'part of ' if outcome.applied else ''}the plan:{reasons}", rest)
    await_leaders(declared, admin)
    _raise_if_unknown(plan)
    if outcome.applied:
        present.say("Done: every partition has a leader.")
    return EXIT_OK


def _raise_if_unknown(plan: Plan) -> None:
    if plan.unknown:
        named = "; ".join(f"{unknown.topic}: {unknown.what}: {unknown.reason}" for unknown in plan.unknown)
        raise BrokerError(
            f"part of the cluster could not be compared ({named})",
            "kpipe needs the permissions DESCRIBE and DESCRIBE_CONFIGS on these topics",
        )


def _records(admin: ClusterAdmin, state: ClusterState) -> dict[str, int | None]:
    """Records by topic; None where a partition did not answer."""
    from orchestrator.records import TopicPartition

    wanted = {
        name: [TopicPartition(name, number) for number in range(topic.partitions)]
        for name, topic in state.topics.items()
    }
    found = admin.offsets([where for partitions in wanted.values() for where in partitions])
    return {
        name: sum(found[p].end - found[p].begin for p in partitions) if found.keys() >= set(partitions) else None
        for name, partitions in wanted.items()
    }
