"""Settings of the Kafka clients: the cluster's address, and properties that are kpipe's own."""

from __future__ import annotations

import re

from orchestrator.config import units
from orchestrator.config.checks.facts import Facts
from orchestrator.config.owned import owned_reason
from orchestrator.config.topics import config_text

KINDS = ("client", "consumer", "producer", "admin")
_SERVER = re.compile(r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\],]+)(:(?P<port>[0-9]{1,5}))?", re.ASCII)


def check(facts: Facts) -> None:
    """All rules about the section `kafka`."""
    bootstrap = facts.doc.get("kafka", "bootstrap")
    if bootstrap and not all(map(_is_server, bootstrap.split(","))):
        message = f"kafka.bootstrap: expected host:port, got {facts.shown(bootstrap)}"
        facts.doc.find("bootstrap", ("kafka", "bootstrap"), message, "several servers have commas between them")
    for kind in KINDS:
        for name, value in facts.doc.section("kafka", kind).items():
            _check_property(facts, kind, name, config_text(value))


def _is_server(text: str) -> bool:
    match = _SERVER.fullmatch(text.strip())
    return match is not None and 0 < int(match["port"] or 9092) < 65536


def _check_property(facts: Facts, kind: str, name: str, value: str) -> None:
    path = ("kafka", kind, name)
    reason = "it takes a function, not a value" if name.endswith("_cb") or name == "logger" else owned_reason(name)
    if reason is not None:
        facts.doc.find("owned-property", path, f"kpipe sets `{name}` itself: {reason}", "remove it", key=True)
    elif name.endswith(".ms") and value == facts.doc.shown(value) and (plain := _milliseconds(value)) is not None:
        message = f"`{name}` is a property of librdkafka, which knows no units"
        facts.doc.find("unit", path, message, f"write {plain}")


def _milliseconds(text: str) -> int | None:
    try:
        return units.milliseconds(text)
    except ValueError:
        return None
