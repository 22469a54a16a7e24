"""The pipeline as a whole: events that nobody sends, letters that go before their event, compaction without keys."""

from __future__ import annotations

from orchestrator.config import units
from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.checks.timings import retention
from orchestrator.config.model import Topic
from orchestrator.config.syntax.nodes import Path


def check(facts: PipelineFacts) -> None:
    """All rules about what leads to what."""
    _check_sources(facts)
    for topic in facts.topics.values():
        _check_letters(facts, topic)
        _check_compaction(facts, topic)


def _check_sources(facts: PipelineFacts) -> None:
    """A warning only: what another system writes is consumed all the same."""
    if _half_read(facts):
        return
    sent = {event.get("topic") for event in facts.doc.section("events").values()}
    for own in facts.handlers.values():
        sent.update(own.get("produces", []))
    for name, own in facts.streams:
        for index, consumed in enumerate(own.get("consumes", [])):
            topic = facts.topic(consumed)
            if topic is None or topic.is_dlq or consumed in sent:
                continue
            sent.add(consumed)  # said once, where it is consumed first
            message = f"nothing in this file sends to {facts.shown(consumed)}, which `{name}` consumes"
            hint = "name it under `produces` of a handler or under `events`, unless another system writes it"
            facts.doc.warn("unproduced", ("handlers", name, "consumes", index), message, hint)


def _half_read(facts: PipelineFacts) -> bool:
    """Whether a refused value may have named a topic."""
    doc = facts.doc
    return (
        doc.refused("events")
        or any(doc.refused("events", name) or doc.refused("events", name, "topic") for name in doc.section("events"))
        or any(doc.refused("handlers", name, "produces") for name in facts.handlers)
    )


def _check_letters(facts: PipelineFacts, dlq: Topic) -> None:
    """A letter that is deleted first leaves an event that is in its topic and that no handler will get again."""
    served = [topic for name in dlq.dlq_for if (topic := facts.topic(name)) is not None and not topic.is_dlq]
    timed = [topic for topic in served if "delete" in topic.configs["cleanup.policy"]]
    longest = max(timed, key=retention, default=None)
    if longest is None or retention(dlq) >= retention(longest):
        return
    kept = facts.doc.figure(units.show_duration(int(dlq.configs["retention.ms"])))
    source = int(longest.configs["retention.ms"])
    for_source = facts.doc.figure("unlimited" if source < 0 else units.show_duration(source))
    message = (
        f"{facts.shown(dlq.name)} keeps dead letters for {kept}, "
        f"but {facts.shown(longest.name)} keeps their events for {for_source}"
    )
    hint = f"`retention: {for_source}` on the DLQ, so that no letter is gone before its event"
    facts.doc.warn("dlq-retention", _place(facts, dlq, "retention", "retention.ms"), message, hint)


def _check_compaction(facts: PipelineFacts, topic: Topic) -> None:
    """Kafka refuses records without a key in a compacted topic (INVALID_RECORD)."""
    if "compact" not in topic.configs["cleanup.policy"]:
        return
    path = _place(facts, topic, "cleanup", "cleanup.policy")
    shown = facts.shown(topic.name)
    if topic.is_dlq:
        message = f"the DLQ {shown} is compacted: a letter removes the earlier ones of its key"
        hint = "`cleanup: delete`; Kafka also refuses the letters of events without a key there"
        facts.doc.warn("compaction", path, message, hint)
    elif topic.key is None and not facts.doc.refused("topics", topic.name, "key"):
        message = f"{shown} is compacted and has no `key`: Kafka refuses records without a key there"
        hint = "name the field of the value that is its key; without one every sender has to give a key itself"
        facts.doc.warn("compaction", path, message, hint)


def _place(facts: PipelineFacts, topic: Topic, option: str, config: str) -> Path:
    """Where the value that holds for `topic` is written, as far as the file says it."""
    own: tuple[str, ...] = ("topics", topic.name)
    for holder in (own, ("defaults", "dlq" if topic.is_dlq else "topic")):
        for path in ((*holder, "configs", config), (*holder, option)):
            if facts.doc.get(*path) is not None:
                return path
    return facts.dlq_named[topic.name] if topic.derived else own
