"""The steps of `kpipe dlq drop`: count what would be lost, have the name typed, delete."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render import output
from orchestrator.errors import BrokerError, ForbiddenError, UsageError
from orchestrator.records import Permission

if TYPE_CHECKING:
    from orchestrator.cli.context import App
    from orchestrator.config.model import Pipeline, Topic
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.kafka.reader import Reader
    from orchestrator.records import GroupUse, TopicPartition


@dataclass(frozen=True, slots=True)
class Loss:
    """What would be deleted: all before `ends`. `waiting` letters were never sent back; times are milliseconds."""

    topic: Topic
    ends: Mapping[TopicPartition, int]
    partitions: int
    records: int
    waiting: int
    first: int | None
    last: int | None


def dlq_named(pipeline: Pipeline, name: str) -> Topic:
    """The DLQ of the file. Raises UsageError for everything else: whose records would they be?"""
    from orchestrator.operations.topic_names import declared_topic
    from orchestrator.text import did_you_mean

    dlqs = [topic.name for topic in pipeline.topics.values() if topic.is_dlq]
    topic = declared_topic(pipeline, name)
    if topic is None or not topic.is_dlq:
        hint = did_you_mean(name, dlqs) or f"there are {', '.join(dlqs) or 'none'}"
        raise UsageError(f"`{name}` is no DLQ of the pipeline file", hint)
    return topic


def loss(pipeline: Pipeline, topic: Topic, reader: Reader) -> Loss:
    """Read the DLQ up to its end. Raises BrokerError when it is not there."""
    from orchestrator.operations.dead_letters.reader import Letterbox, find_dlqs
    from orchestrator.operations.dead_letters.redrive import sent_before, was_sent

    box = Letterbox(reader, find_dlqs(pipeline, [topic.name], reader))
    before = sent_before(pipeline, reader)
    waiting = 0
    first: int | None = None
    last: int | None = None
    for record, letter in box.read():
        waiting += not was_sent(letter, before)
        first = record.timestamp if first is None else min(first, record.timestamp)
        last = record.timestamp if last is None else max(last, record.timestamp)
    ends = {tp: end for tp, end in box.ends.items() if end > box.begins[tp]}
    return Loss(topic, ends, len(box.ends), box.seen, waiting, first, last)


def admin_for(app: App, pipeline: Pipeline) -> ClusterAdmin:
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.kafka.properties import client_properties

    return ClusterAdmin(client_properties(pipeline.kafka, "admin", app.bootstrap(pipeline)))


def waiting(admin: ClusterAdmin, found: Loss) -> list[GroupUse]:
    """The consumer groups that have not read all of it; none where the cluster does not tell."""
    use = admin.use({found.topic.kafka_name: found.partitions}, {})[found.topic.kafka_name]
    return [group for group in use.groups or () if group.lag]


def show(found: Loss, groups: Iterable[GroupUse], *, json: bool, deleted: int | None = None) -> None:
    """What would be lost; with `deleted` records also that they are."""
    if json:
        output.json_line(_as_json(found, deleted))
        return
    if not found.records:
        output.data(f"{found.topic.name} is empty.")
        return
    from orchestrator.cli.render.record import time_of

    records = f"{found.records:,} record{'' if found.records == 1 else 's'}"
    since = "" if found.first is None or found.last is None else f", {time_of(found.first)} to {time_of(found.last)}"
    output.data(f"{found.topic.name}: {records}{since}")
    if found.waiting:
        output.say(f"{found.waiting:,} of them were never sent back (`kpipe dlq redrive`)")
    for group in groups:
        output.say(f"the consumer group {output.safe(group.group)} has not read {group.lag:,} of them")


def ask(name: str) -> bool:
    """Whether the name was typed. Raises UsageError where there is no terminal to type it on."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "there is no terminal to ask on, so nothing was deleted", f"--yes-drop {name} deletes without asking"
        )
    output.say(f"Type {name} to delete them all:")
    return sys.stdin.readline().strip() == name


def delete(admin: ClusterAdmin, found: Loss) -> None:
    """Raises BrokerError when Kafka does not delete everything."""
    refused = {tp: why for tp, why in admin.delete_before(found.ends).items() if why is not None}
    if not refused:
        return
    tp, why = next(iter(refused.items()))
    if why.code == "TOPIC_AUTHORIZATION_FAILED":
        raise ForbiddenError([Permission("DELETE", "topic", tp.topic)])
    part = f"{len(refused)} of {len(found.ends)} partitions" if len(refused) < len(found.ends) else "them"
    hint = {
        "POLICY_VIOLATION": "Kafka deletes from topics only whose cleanup.policy has `delete` in it",
    }.get(why.code, "the same command tries again")
    raise BrokerError(f"Kafka did not delete {part}: {tp.topic}[{tp.partition}]: {why.message}", hint)


def _as_json(found: Loss, deleted: int | None) -> dict[str, Any]:
    return {
        "dlq": found.topic.name,
        "records": found.records,
        "waiting": found.waiting,
        "first": found.first,
        "last": found.last,
        "deleted": deleted,
    }
