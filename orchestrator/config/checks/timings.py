"""Timings that cannot work together, proven before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.config import units
from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.handlers import dedup_of, layered, retry_of
from orchestrator.config.model import RetryPolicy, Topic
from orchestrator.config.syntax.nodes import Path

#: The share by which a wait may be longer than the policy says.
JITTER = 0.2
#: librdkafka's default of `max.poll.interval.ms`, and kpipe's of `session.timeout.ms`.
MAX_POLL_INTERVAL_MS = 300_000
SESSION_TIMEOUT_MS = 10_000


def check(facts: PipelineFacts) -> None:
    """All rules about time."""
    _check_session(facts)
    for name, own in facts.streams:
        options = layered(facts.doc.tree, own)
        _check_backoff(facts, name, options)
        _check_drain(facts, name, options)
        for consumed in own.get("consumes", []):
            topic = facts.topic(consumed)
            if topic is not None:
                _check_attempts(facts, name, options, topic)
                _check_dedup(facts, name, options, topic)


def longest(timeout: float, retry: RetryPolicy) -> float:
    """The longest that one event can be tried, in seconds: every attempt runs into its timeout."""
    waits, wait, left = 0.0, retry.backoff, retry.attempts - 1
    while left > 0 and 0 < wait < retry.max_backoff:
        waits, wait, left = waits + wait, wait * 2, left - 1
    waits += left * min(wait, retry.max_backoff)
    return retry.attempts * timeout + waits * (1 + JITTER)


def _check_attempts(facts: PipelineFacts, name: str, options: Mapping[str, Any], topic: Topic) -> None:
    """A record may not expire while it is still being tried: after a restart it could not be read again."""
    took = longest(units.seconds(options["timeout"]), retry_of(options))
    if math.isinf(took) or took < retention(topic):
        return
    kept = units.show_duration(int(topic.configs["retention.ms"]))
    message = (
        f"`{name}` may try an event of {facts.shown(topic.name)} for {_about(took)}, "
        f"but the topic keeps it for {facts.doc.figure(kept)} only"
    )
    facts.doc.find(
        "timing", _place(facts, name, "retry"), message, "fewer attempts, shorter times or a longer retention"
    )


def _check_dedup(facts: PipelineFacts, name: str, options: Mapping[str, Any], topic: Topic) -> None:
    """The ids of the window are read again from the topic itself, after every restart."""
    dedup = dedup_of(options)
    if dedup is None or topic.is_dlq or dedup.window <= retention(topic):
        return
    kept = units.show_duration(int(topic.configs["retention.ms"]))
    message = (
        f"`{name}` looks for copies within {facts.doc.figure(_about(dedup.window))}, "
        f"but {facts.shown(topic.name)} keeps events for {facts.doc.figure(kept)} only"
    )
    facts.doc.find(
        "timing", _place(facts, name, "dedup", "window"), message, "a shorter `dedup.window` or a longer retention"
    )


def retention(topic: Topic) -> float:
    """How long the topic keeps a record, in seconds; infinite when time deletes nothing."""
    kept = int(topic.configs["retention.ms"])
    return math.inf if kept < 0 or "delete" not in topic.configs["cleanup.policy"] else kept / 1000


def _check_backoff(facts: PipelineFacts, name: str, options: Mapping[str, Any]) -> None:
    retry = retry_of(options)
    if retry.max_backoff < retry.backoff:
        message = f"`{name}`: `max-backoff` is shorter than `backoff`"
        facts.doc.find("timing", _place(facts, name, "retry"), message, "`max-backoff` is 30s unless it is set")


def _check_drain(facts: PipelineFacts, name: str, options: Mapping[str, Any]) -> None:
    """On a rebalance the worker drains inside of poll(), for half of the interval past which its group drops it."""
    interval = _property(facts, "max.poll.interval.ms", MAX_POLL_INTERVAL_MS)
    if units.seconds(options["timeout"]) * 1000 <= interval / 2:
        return
    budget = facts.doc.figure(units.show_duration(interval // 2))
    message = f"an event that `{name}` handles for more than {budget} is abandoned by a rebalance and handled again"
    hint = "a shorter `timeout`, or a `max.poll.interval.ms` of twice its length under kafka.consumer"
    facts.doc.warn("timing", _place(facts, name, "timeout"), message, hint)


def _check_session(facts: PipelineFacts) -> None:
    session = _property(facts, "session.timeout.ms", SESSION_TIMEOUT_MS)
    interval = _property(facts, "max.poll.interval.ms", MAX_POLL_INTERVAL_MS)
    if session > interval:
        message = "`max.poll.interval.ms` is shorter than `session.timeout.ms`: librdkafka refuses that"
        kind = "consumer" if facts.doc.section("kafka", "consumer") else "client"
        facts.doc.find("timing", ("kafka", kind, "max.poll.interval.ms"), message)


def _property(facts: PipelineFacts, name: str, default: int) -> int:
    """A property of the consumer, in milliseconds; what is not a number is librdkafka's to refuse."""
    for kind in ("consumer", "client"):
        text = str(facts.doc.section("kafka", kind).get(name, ""))
        if text.isascii() and text.isdigit() and len(text) < 12:
            return int(text)
    return default


def _place(facts: PipelineFacts, name: str, *option: str) -> Path:
    """Where the option is set: at the handler, else in its defaults, else nowhere but the handler itself."""
    for holder in (("handlers", name), ("defaults", "handler")):
        for length in range(len(option), 0, -1):
            if facts.doc.get(*holder, *option[:length]) is not None:
                return (*holder, *option[:length])
    return ("handlers", name)


def _about(value: float) -> str:
    """Seconds in the largest unit that keeps two digits or so: `2h`, `150s`."""
    milliseconds = math.ceil(value * 1000)
    for unit, factor in units.DURATIONS.items():
        if milliseconds >= 2 * factor or milliseconds == factor:
            return f"{math.ceil(milliseconds / factor)}{unit}"
    return f"{milliseconds}ms"
