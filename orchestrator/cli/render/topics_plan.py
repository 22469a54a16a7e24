"""What `kpipe topics sync` prints and asks: the plan, what is worth knowing beside it, how far it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.cli.render import output
from orchestrator.errors import UsageError
from orchestrator.text import safe

if TYPE_CHECKING:
    from orchestrator.cli.render.output import Style
    from orchestrator.operations.topics.sync import BrokenContracts
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
        output.data(safe(as_markdown(seen.plan, seen.impact), lines=True))
    else:
        for line in as_text(seen.plan, seen.impact).splitlines():
            color = _COLORS.get(line[:1]) if line[1:2] == " " else None
            output.data(output.paint(safe(line), *([color] if color else [])))


def notes(seen: Survey) -> None:
    """What is not a change and still worth knowing."""
    for note in seen.notes:
        output.say(safe(note))
    if seen.claims.why_unknown:
        output.say(f"Who owns the topics is not known: {safe(seen.claims.why_unknown)}")
    if left := seen.plan.left_over:
        named = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        output.say(f"Created by this pipeline and no longer in its file: {safe(named)} (see --prune)")


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


def show_broken(broken: BrokenContracts) -> None:
    """What breaks in each contract that is not compatible with its earlier version."""
    from orchestrator.operations.schemas import diff

    for one in broken.contracts:
        for line in diff.lines(one, "full", strict=False):
            output.say(safe(line))


def show_warnings(findings: Sequence[Finding]) -> None:
    """What Kafka would refuse, where that is no error."""
    for finding in findings:
        output.say(output.finding_text(finding, stream=sys.stderr))


def show_unused(allowed: Sequence[Any], plan: Plan) -> None:
    """An `--allow` that fits nothing may be a slip, and may be a script's second run: it is said, not refused."""
    risks = {(change.risk, change.topic) for change in plan.changes}
    for word in allowed:
        if word not in risks and word.risk != "incompatible":
            output.say(f"--allow {safe(str(word))}: nothing in this plan has that risk")


def unrecorded(why: str) -> None:
    """The topics are as declared, but the claims on them could not be kept."""
    output.say(f"Who owns the topics could not be put on record: {safe(why)}")


def progress(action: Action | Literal["wait"], done: int, total: int) -> None:
    """How far a plan with many topics is, on a terminal."""
    if total >= _WORTH_SHOWING:
        output.in_place("" if done == total else f"{_DOING[action]}: {done} of {total}")
