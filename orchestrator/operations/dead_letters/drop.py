"""Deleting all letters of a DLQ: what would be lost, who has not read it, and the deletion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerError, ForbiddenError, UsageError
from orchestrator.records import Permission

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline, Topic
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.operations.dead_letters.reader import Progress
    from orchestrator.operations.loading import Project
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


def loss_of(project: Project, topic: Topic, progress: Progress | None = None) -> Loss:
    """Read the DLQ up to its end. Raises BrokerError when it is not there."""
    from orchestrator.operations.dead_letters.reader import Letterbox, find_dlqs
    from orchestrator.operations.dead_letters.redrive import sent_before, was_sent

    waiting = 0
    first: int | None = None
    last: int | None = None
    with project.reader() as reader:
        box = Letterbox(reader, find_dlqs(project.pipeline, [topic.name], reader), progress)
        before = sent_before(project.pipeline, reader)
        for record, letter in box.read():
            waiting += not was_sent(letter, before)
            first = record.timestamp if first is None else min(first, record.timestamp)
            last = record.timestamp if last is None else max(last, record.timestamp)
    ends = {tp: end for tp, end in box.ends.items() if end > box.begins[tp]}
    return Loss(topic, ends, len(box.ends), box.seen, waiting, first, last)


def unread_by(admin: ClusterAdmin, loss: Loss) -> list[GroupUse]:
    """The consumer groups that have not read all of it; none where the cluster does not tell."""
    use = admin.use({loss.topic.kafka_name: loss.partitions}, {})[loss.topic.kafka_name]
    return [group for group in use.groups or () if group.lag]


def delete(admin: ClusterAdmin, loss: Loss) -> None:
    """Raises BrokerError when Kafka does not delete everything."""
    refused = {tp: why for tp, why in admin.delete_before(loss.ends).items() if why is not None}
    if not refused:
        return
    tp, why = next(iter(refused.items()))
    if why.code == "TOPIC_AUTHORIZATION_FAILED":
        raise ForbiddenError([Permission("DELETE", "topic", tp.topic)])
    part = f"{len(refused)} of {len(loss.ends)} partitions" if len(refused) < len(loss.ends) else "them"
    hint = {
        "POLICY_VIOLATION": "Kafka deletes from topics only whose cleanup.policy has `delete` in it",
    }.get(why.code, "the same command tries again")
    raise BrokerError(f"Kafka did not delete {part}: {tp.topic}[{tp.partition}]: {why.message}", hint)
