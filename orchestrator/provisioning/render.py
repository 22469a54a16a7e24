"""A plan for people and for programs. Values are shown in the units of the pipeline file."""

from __future__ import annotations

from orchestrator.config.units import show_duration, show_size
from orchestrator.provisioning.plan import MIN_ISR, PARTITIONS, REPLICATION, Action, Change, Plan

_MARKS: dict[Action, str] = {"create": "+", "grow": "~", "config": "~", "shrink": "-", "replication": "~"}
_ARROW = "→"

#: Of these -1 means that there is no limit; of any other key it is a number like others.
_UNLIMITED = frozenset({"retention.bytes", "retention.ms"})


def as_json(plan: Plan) -> dict[str, object]:
    """The shape of docs/json.md."""
    return {"changes": [change.as_json() for change in plan.changes]}


def as_text(plan: Plan) -> str:
    """One line a changed field, one a new topic, in the plan's order, and the totals at the end."""
    created = {spec.name for spec in plan.creates()}
    rows: list[tuple[str, str, str, str]] = []
    for topic in dict.fromkeys(c.topic for c in plan.changes):
        changes = [c for c in plan.changes if c.topic == topic]
        rows += [_new_topic(topic, changes)] if topic in created else [_row(c) for c in changes]
    rows += [("?", u.topic, u.what, f"not known: {u.reason}") for u in plan.unknown]
    return "\n".join([*_aligned(rows), *([""] if rows else []), totals(plan)])


def totals(plan: Plan) -> str:
    """`Plan: 3 to create, 1 to grow, 2 to change, 0 refused.`"""
    count = plan.totals()
    text = f"{count['create']} to create, {count['grow']} to grow, {count['config']} to change"
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
    values = f"{human(change.field, change.old)} {_ARROW} {human(change.field, change.new)}"
    return _MARKS[change.action], change.topic, change.field, values + (f"  [{note}]" if note else "")


def _aligned(rows: list[tuple[str, str, str, str]]) -> list[str]:
    topic = max((len(row[1]) for row in rows), default=0)
    field = max((len(row[2]) for row in rows), default=0)
    return [f"{mark} {name:<{topic}}  {what:<{field}}  {rest}" for mark, name, what, rest in rows]
