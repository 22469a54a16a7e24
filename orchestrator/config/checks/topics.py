"""Topic configs: values that the broker cannot take, and two ways of saying one thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.model import Topic
from orchestrator.config.syntax.nodes import Path
from orchestrator.config.topics import LETTER_HEADROOM, config_value

#: Options that are topic configs too.
SAME = {
    "retention.ms": "retention",
    "cleanup.policy": "cleanup",
    "min.insync.replicas": None,
}
MAX_RECORD = 2**31 - 1


def check(facts: PipelineFacts) -> None:
    """The configs of topics, DLQs and defaults."""
    for path, holder in _holders(facts):
        _check_configs(facts, path, holder)
    for topic in facts.topics.values():
        _check_replicas(facts, topic)
        _check_limit(facts, topic)


def _holders(facts: PipelineFacts) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for kind in ("topic", "dlq"):
        yield ("defaults", kind), facts.doc.section("defaults", kind)
    for name, topic in facts.doc.section("topics").items():
        yield ("topics", name), topic


def _check_configs(facts: PipelineFacts, path: Path, holder: Mapping[str, Any]) -> None:
    for key, value in holder.get("configs", {}).items():
        place = (*path, "configs", key)
        try:
            config_value(key, value)
        except ValueError:
            example = "7d" if key.endswith(".ms") else "1MB"
            hint = f"a whole number, or one with a unit such as {example}"
            facts.doc.find("unit", place, f"`{key}` cannot be {facts.shown(value)}", hint)
        option = SAME.get(key)
        if option is not None and option in holder:
            message = f"`{key}` is set by `{option}` too"
            facts.doc.find("conflict", place, message, "keep one of the two", key=True)


def _check_replicas(facts: PipelineFacts, topic: Topic) -> None:
    """The broker takes such a topic and then refuses every write with acks=all (NOT_ENOUGH_REPLICAS)."""
    needed = topic.configs.get("min.insync.replicas", "1")
    if needed.isascii() and needed.isdigit() and len(needed) < 10 and int(needed) > topic.replication:
        message = (
            f"{facts.shown(topic.name)} needs {facts.doc.figure(needed)} replicas in sync "
            f"and has {facts.doc.shown(topic.replication)}"
        )
        hint = "`min.insync.replicas` can be at most `replication`; nothing could be written"
        facts.doc.find("replication", _config_path(facts, topic, "min.insync.replicas"), message, hint)


def _check_limit(facts: PipelineFacts, topic: Topic) -> None:
    path = _config_path(facts, topic, "max.message.bytes")
    if topic.record_limit > MAX_RECORD:
        message = f"records of {facts.shown(topic.name)} cannot be that large"
        facts.doc.find("value", path, message, "`max.message.bytes` is at most 2 GiB (2147483647)")
    served = [source for name in topic.dlq_for if (source := facts.topic(name)) is not None]
    largest = max(served, key=lambda topic: topic.record_limit, default=None)
    if largest is not None and topic.record_limit < largest.record_limit + LETTER_HEADROOM:
        message = (
            f"a record of {facts.shown(largest.name)} may not fit into {facts.shown(topic.name)} with the headers "
            "of a dead letter"
        )
        hint = "leave `max.message.bytes` of the DLQ out: kpipe takes its largest topic's and adds 64KB"
        facts.doc.warn("dlq-size", path, message, hint)


def _config_path(facts: PipelineFacts, topic: Topic, key: str) -> Path:
    """Where the config that holds for `topic` is written, as far as the file says it."""
    own: Path = ("topics", topic.name)
    defaults: Path = ("defaults", "dlq" if topic.is_dlq else "topic")
    for holder in (own, defaults):
        if key in facts.doc.section(*(str(step) for step in holder), "configs"):
            return (*holder, "configs", key)
    if topic.derived:
        return facts.dlq_named[topic.name]
    return own
