"""Settings of the Kafka clients: the cluster's address, properties that are kpipe's own, and those that run code."""

from __future__ import annotations

import re

from orchestrator.config import units
from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.clients import narrower
from orchestrator.config.guarded import ALLOW, guarded_reason
from orchestrator.config.owned import canonical, owned_reason
from orchestrator.config.topics import config_text

KINDS = ("client", "consumer", "producer", "admin")
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", re.ASCII)
_SERVER = re.compile(r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\],]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII)


def check(facts: PipelineFacts) -> None:
    """All rules about the section `kafka`."""
    bootstrap = facts.doc.get("kafka", "bootstrap")
    if bootstrap and not all(map(_is_server, bootstrap.split(","))):
        message = f"kafka.bootstrap: expected host:port, got {facts.shown(bootstrap)}"
        facts.doc.find("bootstrap", ("kafka", "bootstrap"), message, "several servers have commas between them")
    for kind in KINDS:
        for name, value in facts.doc.section("kafka", kind).items():
            _check_property(facts, kind, name, config_text(value))
        _check_limits(facts, kind)


def _check_limits(facts: PipelineFacts, kind: str) -> None:
    """A client that takes less than a topic: the cluster may allow even more (`provisioning.sizes`)."""
    largest = max(facts.topics.values(), key=lambda topic: topic.record_limit, default=None)
    if largest is None:
        return
    given = {name: config_text(value) for name, value in facts.doc.section("kafka", kind).items()}
    for name, most in narrower(kind, given, largest.record_limit):
        least, takes = facts.doc.figure(str(most)), facts.doc.figure(str(largest.record_limit))
        message = f"`{name}` lets {least} bytes through, and {facts.shown(largest.name)} takes {takes}"
        hint = f"leave `{name}` out: kpipe's is as wide as it can be"
        facts.doc.warn("narrow-client", ("kafka", kind, name), message, hint, key=True)


def _is_server(text: str) -> bool:
    match = _SERVER.fullmatch(text.strip())
    return match is not None and 0 < int(match["port"] or 9092) < 65536


def _check_property(facts: PipelineFacts, kind: str, name: str, value: str) -> None:
    path = ("kafka", kind, name)
    owned, guarded = owned_reason(name), _guarded(facts, name, value)
    if owned is not None:
        facts.doc.find("owned-property", path, f"kpipe sets `{name}` itself: {owned}", "remove it", key=True)
    elif guarded is not None:
        hint = f"remove it; or trust this file, and say so in your own environment: {ALLOW}={name.strip().lower()}"
        facts.doc.find("unsafe-property", path, f"`{name}` {guarded}", hint, key=True)
    elif name.endswith(".ms") and not _NUMBER.fullmatch(value):
        message = f"`{name}` is a property of librdkafka and has to be a number, got {facts.shown(value)}"
        facts.doc.find("unit", path, message, _milliseconds(value) if value == facts.doc.shown(value) else "")


def _guarded(facts: PipelineFacts, name: str, value: str) -> str | None:
    """Why the property is refused. A tree without its nodes comes from the process that read the files and asked."""
    if facts.doc.root is None or canonical(name) in facts.doc.allowed:
        return None
    return guarded_reason(name, value)


def _milliseconds(text: str) -> str:
    try:
        return f"librdkafka knows no units: write {units.milliseconds(text)}"
    except ValueError:
        return ""
