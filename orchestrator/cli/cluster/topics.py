"""`kpipe topics`: bring the cluster's topics in line with the pipeline file, and list them."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import EXIT_OK, EXIT_UNEXPECTED, FindingsError, UsageError


@click.group("topics")
def command() -> None:
    """Create, change, remove and list the topics of the pipeline file, its DLQs included."""


@command.command("sync")
@click.option("--dry-run", is_flag=True, help="Show what would change, ask Kafka whether it would take it, and end.")
@click.option("--check", is_flag=True, help="Change nothing; exit 3 if the cluster is not as declared.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Covers safe changes only: others need --allow.")
@click.option(
    "--allow", multiple=True, metavar="RISK=TOPIC", help="Allow a risk that the plan names, for one topic; repeatable."
)
@click.option("--prune", is_flag=True, help="Remove topics that this pipeline created and its file no longer names.")
@click.option(
    "--plan",
    "planned",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Apply the plan in FILE (from --dry-run --json) without asking, or refuse it as stale.",
)
@click.option(
    "--against", metavar="REV|FOLDER", help="Compare contracts with this version.  [default: HEAD, where git has one]"
)
@click.option("--format", "form", type=click.Choice(["text", "markdown"]), default="text", help="How to show the plan.")
@click.pass_obj
def sync(
    app: App,
    dry_run: bool,
    check: bool,
    yes: bool,
    allow: tuple[str, ...],
    prune: bool,
    planned: Path | None,
    against: str | None,
    form: str,
) -> int:
    """Make the cluster's topics what the pipeline file declares.

    Shows the plan, asks, applies it and waits until every partition has a leader. Before the first write the whole
    plan is checked with Kafka: what it would refuse is shown at its line of the file, and then nothing is changed.
    Changes that can hurt (reorders, data-loss, in-use, takeover) are only made for topics named with --allow, and so is
    any change while a contract breaks with its earlier version (incompatible): see `kpipe schemas check`.
    Fewer partitions or another replication factor is refused.
    """
    from orchestrator.cli.project.validate import contract_findings
    from orchestrator.cli.render import topics_plan as plan_text
    from orchestrator.operations.loading import Project
    from orchestrator.operations.topics import sync as syncing
    from orchestrator.provisioning import consent, plan_file
    from orchestrator.provisioning.survey import survey

    _require_sense(app, check=check, prune=prune, planned=planned, form=form)
    loaded = app.read()
    project = Project.of(app.files, loaded)
    findings = contract_findings(loaded)
    if any(finding.severity == "error" for finding in findings):
        raise FindingsError(findings)
    allowed = consent.parse(allow, project.pipeline)
    reviewed = None if planned is None else plan_file.read(planned)
    cluster = project.clients.topics()
    seen = survey(project.pipeline, cluster.admin, cluster.claims, prune=prune or bool(reviewed and reviewed["prune"]))
    plan_text.show(seen, json=app.json, markdown=form == "markdown")
    plan_text.notes(seen)
    if check:
        syncing.check(seen.plan)
        return EXIT_OK
    if reviewed is not None:
        plan_file.require_same(reviewed, seen.plan)
    seen.plan.raise_if_refused()
    plan_text.show_unused(sorted(allowed), seen.plan)
    consent.require(seen.plan, allowed, only=("takeover",) if dry_run else tuple(consent.NAMED))
    broken = syncing.broken_contracts(project, against, allowed)
    plan_text.show_broken(broken)
    broken.raise_if_any()
    plan_text.show_warnings(syncing.verify(seen.plan, cluster, loaded, lenient=dry_run))
    if dry_run:
        return EXIT_OK
    if not (seen.plan.is_empty or yes or reviewed is not None or plan_text.ask(seen.plan)):
        output.say("Nothing was changed.")
        return EXIT_UNEXPECTED
    if syncing.apply(seen, cluster, plan_text.progress, plan_text.unrecorded):
        output.say("Done: every partition has a leader.")
    return EXIT_OK


def _require_sense(app: App, *, check: bool, prune: bool, planned: Path | None, form: str) -> None:
    if app.json and form != "text":
        raise UsageError("--format and --json exclude each other", "--json prints the plan for programs")
    if planned is not None and (check or prune):
        raise UsageError("--plan goes with neither --check nor --prune", "the plan itself says whether it prunes")


@command.command("ls")
@click.pass_obj
def ls(app: App) -> None:
    """List the pipeline's topics as the cluster has them.

    An absent topic is shown with its declared values. RECORDS counts offsets: transaction markers and what
    compaction removed are in it.
    """
    from orchestrator.operations.topics.listing import list_topics

    rows = list_topics(app.project())
    if app.json:
        output.json_line({"topics": [row.as_json() for row in rows]})
        return
    output.table(
        ("TOPIC", "PARTITIONS", "REPLICATION", "RETENTION", "RECORDS", "STATE"),
        [(r.kafka_name, r.partitions, r.replication, r.retention, r.records, r.state) for r in rows],
    )
    if any(row.state in ("absent", "drift") for row in rows):
        output.say("`kpipe topics sync --dry-run` shows what differs from the pipeline file.")
