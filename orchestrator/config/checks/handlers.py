"""Handlers that kpipe feeds: their topics, consumer groups and replicas."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.handlers import group_of, layered
from orchestrator.config.syntax.nodes import Path


def check(facts: PipelineFacts) -> None:
    """All rules about stream handlers, and the topics that any handler names."""
    for path, topic in _named_topics(facts):
        check_topic(facts, path, topic)
    _check_groups(facts)
    for name, _ in facts.streams:
        _check_replicas(facts, name)


def _named_topics(facts: PipelineFacts) -> Iterator[tuple[Path, str]]:
    for name, own in facts.handlers.items():
        for key in ("consumes", "produces"):
            for index, topic in enumerate(own.get(key, [])):
                yield ("handlers", name, key, index), topic


def check_topic(facts: PipelineFacts, path: Path, topic: str) -> None:
    """The topic that `path` names has to exist: declared, or a DLQ that is named somewhere."""
    if topic in facts.topics or facts.uncertain:
        return
    hint = facts.doc.suggestion(topic, facts.topics) or f"declare it: topics: {{{facts.doc.shown(topic)}: {{…}}}}"
    facts.doc.find("unknown-topic", path, f"nothing declares the topic {facts.shown(topic)}", hint)


def _check_groups(facts: PipelineFacts) -> None:
    """Two handlers in one group would share the events out between them: each would miss some."""
    taken: dict[str, str] = {}
    for name, own in facts.streams:
        other = taken.setdefault(group_of(facts.doc.tree, name, own), name)
        if other != name:
            message = f"`{name}` and `{other}` have the same consumer group: each would miss events of the other"
            facts.doc.find("group", ("handlers", name, "group"), message, "one `group` for each handler")


def _check_replicas(facts: PipelineFacts, name: str) -> None:
    own = facts.handlers[name]
    replicas = layered(facts.doc.tree, own)["replicas"]
    consumed = [topic for topic in map(facts.topic, own.get("consumes", [])) if topic is not None]
    partitions = sum(topic.partitions for topic in consumed)
    if consumed and replicas > partitions:
        message = (
            f"`{name}` has {facts.doc.shown(replicas)} replicas for {partitions} partitions: the others would be idle"
        )
        facts.doc.warn("replicas", ("handlers", name, "replicas"), message, "a partition has one reader in a group")
