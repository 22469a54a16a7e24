"""Names that Kafka takes. Rules: org.apache.kafka.common.internals.Topic (validation, collisions, internal topics)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.model import NO_DLQ, Topic, redrive_name
from orchestrator.config.syntax.nodes import Path

MAX_LENGTH = 249
_LEGAL = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
_INTERNAL = frozenset(("__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"))


def check(facts: PipelineFacts) -> None:
    """Every topic's name, the derived ones included, alone and against each other."""
    taken: dict[str, Topic] = {}
    for topic in facts.topics.values():
        path, at_key = _place(facts, topic)
        for message, hint in _problems(facts, topic):
            facts.doc.find("topic-name", path, message, hint, key=at_key)
        other = taken.setdefault(topic.kafka_name.replace(".", "_"), topic)
        if other is not topic:
            both = f"{facts.shown(topic.name)} and {facts.shown(other.name)}"
            hint = "Kafka takes `.` and `_` for the same in the names of metrics; rename one of them"
            facts.doc.find("topic-collision", path, f"the topics {both} collide", hint, key=at_key)
    _check_redrives(facts, taken)


def _check_redrives(facts: PipelineFacts, taken: Mapping[str, Topic]) -> None:
    """The topics of redriven letters, `<pipeline>.<handler>.redrive`, are made at need: nobody else's may be there."""
    namespace, pipeline = facts.doc.tree.get("namespace") or "", facts.doc.tree.get("pipeline", "")
    for handler, _ in facts.streams:
        name = redrive_name(namespace, pipeline, handler)
        other = taken.get(name.replace(".", "_"))
        if other is not None:
            message = f"{facts.shown(other.name)} is where dead letters would go back to `{handler}`"
            path, at_key = _place(facts, other)
            facts.doc.find("topic-collision", path, message, "rename one of them", key=at_key)
        elif len(name) > MAX_LENGTH:
            message = f"the name of its topic for redriven letters, {name}, is {len(name)} characters long"
            facts.doc.find("topic-name", ("handlers", handler), message, f"Kafka takes {MAX_LENGTH} at most", key=True)


def _place(facts: PipelineFacts, topic: Topic) -> tuple[Path, bool]:
    """Where the topic gets its name: its declaration, or the first place that names the DLQ."""
    if topic.derived:
        return facts.dlq_named[topic.name], False
    return ("topics", topic.name), True


def _problems(facts: PipelineFacts, topic: Topic) -> Iterator[tuple[str, str]]:
    shown = facts.shown(topic.name)
    if not _LEGAL.fullmatch(topic.name) or topic.name in (".", ".."):
        yield f"{shown} is no name for a topic", "letters, digits, `.`, `_` and `-` only, and neither `.` nor `..`"
    elif topic.name == NO_DLQ:
        yield f"a topic cannot be called {shown}", "`dlq: none` would mean it"
    elif topic.kafka_name in _INTERNAL:
        yield f"{shown} is a topic of Kafka's own", "choose another name"
    if len(topic.kafka_name) > MAX_LENGTH:
        with_prefix = " with its namespace" if topic.kafka_name != topic.name else ""
        length = f"{len(topic.kafka_name)} characters long{with_prefix}"
        yield f"the topic's name is {length}", f"Kafka takes {MAX_LENGTH} at most"
