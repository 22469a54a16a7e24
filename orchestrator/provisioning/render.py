"""A plan for people and for programs. Values are shown in the units of the pipeline file."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.units import show_duration, show_size
from orchestrator.provisioning.impact import HandlerHit, Impact
from orchestrator.provisioning.plan import MIN_ISR, PARTITIONS, REPLICATION, Action, Change, Plan

_MARKS: dict[Action, str] = {
    "create": "+",
    "grow": "~",
    "config": "~",
    "shrink": "-",
    "replication": "~",
    "delete": "-",
    "takeover": "~",
}
_ARROW = "→"

#: Of these -1 means that there is no limit; of any other key it is a number like others.
_UNLIMITED = frozenset({"retention.bytes", "retention.ms"})


def as_text(plan: Plan, impact: Sequence[Impact] = ()) -> str:
    """One line a changed field, one a new topic, in the plan's order; whom it hits; and the totals at the end."""
    rows = _aligned(_rows(plan))
    hits = [line for hit in impact for line in _hit(hit)]
    return "\n".join([*rows, *([""] if rows else []), *hits, *([""] if hits else []), totals(plan)])


def as_markdown(plan: Plan, impact: Sequence[Impact] = ()) -> str:
    """The same as tables, for a comment on a change of the pipeline file."""
    rows = _rows(plan)
    table = ["| | topic | what | change |", "|---|---|---|---|"]
    table += [
        f"| `{mark}` | {_cell(topic)} | {_cell(what)} | {_cell(rest.strip())} |" for mark, topic, what, rest in rows
    ]
    hits = [f"- {_cell(line)}" if line[0] != " " else f"  - {_cell(line.strip())}" for h in impact for line in _hit(h)]
    parts = [table if rows else [], hits, [f"**{totals(plan)}**"]]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _rows(plan: Plan) -> list[tuple[str, str, str, str]]:
    """Mark, topic, field and what is said of it."""
    by_topic: dict[str, list[Change]] = {}
    for change in plan.changes:
        by_topic.setdefault(change.topic, []).append(change)
    rows: list[tuple[str, str, str, str]] = []
    for topic, changes in by_topic.items():
        created = changes[0].action == "create"
        rows += [_new_topic(topic, changes)] if created else [_row(change) for change in changes]
    return rows + [("?", u.topic, u.what, f"not known: {u.reason}") for u in plan.unknown]


def _hit(hit: Impact) -> list[str]:
    """Whom a change of one topic hits: the topic, then a line for each."""
    records = (
        "an unknown number of records" if hit.records is None else f"{hit.records} {_plural('record', hit.records)}"
    )
    lines = [f"{hit.topic}: {records} at stake"]
    lines += [f"  {_handler(handler)}" for handler in hit.handlers]
    if hit.groups is None:
        return [*lines, "  its consumer groups are not known"]
    lines += [
        f"  group {g.group}: {'active' if g.active else 'no members'}, lag {g.lag} {_plural('record', g.lag)}"
        for g in hit.groups
    ]
    return [*lines, "  other groups are not known: that needs DESCRIBE on all groups"] if hit.hidden else lines


def _handler(hit: HandlerHit) -> str:
    text = f"handler {hit.handler} {hit.role} it"
    if hit.role == "produces":
        return text
    text += f" with {hit.replicas} {_plural('replica', hit.replicas)}"
    if hit.idle_before == hit.idle_after:
        return text + (f", {hit.idle_after} idle" if hit.idle_after else "")
    return text + f", idle {hit.idle_before} {_ARROW} {hit.idle_after}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _cell(text: str) -> str:
    """Text that cannot end its cell, nor be taken for HTML."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ").replace("\r", " ")


def totals(plan: Plan) -> str:
    """`Plan: 3 to create, 1 to grow, 2 to change, 0 refused.`; deletions and takeovers only where there are some."""
    count = plan.totals()
    text = f"{count['create']} to create, {count['grow']} to grow, {count['config']} to change"
    text += f", {count['delete']} to delete" if count["delete"] else ""
    text += f", {len(plan.of('takeover'))} to take over" if plan.of("takeover") else ""
    return f"Plan: {text}, {count['refused']} refused."


def human(field: str, value: int | str | None) -> str:
    """A config's value as a person would write it in the file; None is the broker's default."""
    if value is None:
        return "(default)"
    text = str(value)
    if field in _UNLIMITED and text == "-1":
        return "unlimited"
    if not text.isdecimal():
        return text or '""'
    if field.endswith(".ms"):
        return show_duration(int(text))
    if field.endswith(".bytes"):
        return show_size(int(text))
    return text


def explain(change: Change) -> str:
    """What a change that is not safe does, in a few words; "" for a safe one."""
    if change.risk == "safe":
        return ""
    if change.risk == "reorders":
        return "keys move to other partitions: order is not kept across the change"
    if change.action == "delete":
        return "deleted with all its records" + (", and it is still read" if change.risk == "in-use" else "")
    if change.risk == "takeover":
        return "another pipeline declares this topic"
    if change.risk == "data-loss":
        return "can lose data"
    return f"refused: {_REFUSED.get(change.field, 'not possible')}"


_REFUSED = {
    PARTITIONS: "Kafka cannot remove partitions",
    REPLICATION: "kpipe does not move replicas",
    MIN_ISR: "more than the topic has replicas, nothing could be written",
}


def _new_topic(topic: str, changes: list[Change]) -> tuple[str, str, str, str]:
    said = [f"{c.field} {human(c.field, c.new)}" for c in changes]
    notes = [f"  [{c.field}: {explain(c)}]" for c in changes if c.risk != "safe"]
    return "+", topic, "new", ", ".join(said) + "".join(notes)


def _row(change: Change) -> tuple[str, str, str, str]:
    note = explain(change)
    if change.action == "delete":
        return _MARKS["delete"], change.topic, "topic", f"{change.old} partitions {_ARROW} gone  [{note}]"
    values = f"{human(change.field, change.old)} {_ARROW} {human(change.field, change.new)}"
    return _MARKS[change.action], change.topic, change.field, values + (f"  [{note}]" if note else "")


def _aligned(rows: list[tuple[str, str, str, str]]) -> list[str]:
    topic = max((len(row[1]) for row in rows), default=0)
    field = max((len(row[2]) for row in rows), default=0)
    return [f"{mark} {name:<{topic}}  {what:<{field}}  {rest}" for mark, name, what, rest in rows]
