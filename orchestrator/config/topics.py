"""The topics of a pipeline with every default filled in, and the DLQs that follow from them.

Works on the plain tree and expects its shape to be right; what is missing or refused counts as not given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import units
from orchestrator.config.model import BROKER_MAX_MESSAGE_BYTES, NO_DLQ, RECORD_LIMIT, Topic
from orchestrator.config.syntax import grammar

#: Room for the headers of a dead letter: 8 KB of stack, 1 KB of message, violations, names.
LETTER_HEADROOM = 64_000

_DURATION = re.compile(r"[0-9]+(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"[0-9]+[KMGT]?i?B", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def config_text(value: object) -> str:
    """A config's value as text, as YAML and Kafka write it."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def config_value(key: str, value: object) -> str:
    """The broker's string for one topic config; raises ValueError for what its key cannot take.

    Values of keys that end in `.ms` or `.bytes` may have a unit; `unlimited` is -1 where Kafka knows it.
    """
    text = config_text(value)
    if not key.endswith((".ms", ".bytes")) or _WHOLE.fullmatch(text):
        return text
    if text == "unlimited" and "retention" in key:
        return "-1"
    if key.endswith(".ms") and _DURATION.fullmatch(text):
        return str(units.milliseconds(text))
    if key.endswith(".bytes") and _SIZE.fullmatch(text):
        return str(units.size(text))
    raise ValueError(text)


def dlq_sources(tree: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every DLQ that the file names and the topics it serves, in the order in which they are named."""
    found: dict[str, list[str]] = {}
    for name, topic in _section(tree, "topics").items():
        if topic.get("dlq", NO_DLQ) != NO_DLQ:
            found.setdefault(topic["dlq"], []).append(name)
    for handler in _section(tree, "handlers").values():
        dlq = handler_dlq(tree, handler)
        if dlq not in (None, NO_DLQ):
            sources = found.setdefault(dlq, [])
            sources += [topic for topic in handler.get("consumes", []) if topic not in sources]
    return {name: tuple(sources) for name, sources in found.items()}


def handler_dlq(tree: Mapping[str, Any], handler: Mapping[str, Any]) -> Any:
    """The handler's own DLQ: its `dlq`, else the one of `defaults.handler`; services have none."""
    if "service" in handler:
        return None
    return handler.get("dlq", _section(tree, "defaults", "handler").get("dlq"))


def resolve_topics(tree: Mapping[str, Any], base: Path) -> dict[str, Topic]:
    """All topics by the file's names: the declared ones in its order, then the derived DLQs."""
    sources = dlq_sources(tree)
    declared = _section(tree, "topics")
    prefix = f"{tree['namespace']}." if tree.get("namespace") else ""
    ordinary = {name: _ordinary(tree, name, prefix, base) for name in declared if name not in sources}
    return {
        name: ordinary[name] if name in ordinary else _dlq(tree, name, prefix, sources[name], ordinary)
        for name in [*declared, *(name for name in sources if name not in declared)]
    }


def _ordinary(tree: Mapping[str, Any], name: str, prefix: str, base: Path) -> Topic:
    defaults = _section(tree, "defaults", "topic")
    topic = tree["topics"][name]
    built_in = {key: _default("topic", key) for key in ("partitions", "replication", "retention", "cleanup")}
    return Topic(
        name=name,
        kafka_name=prefix + name,
        partitions=int(_first("partitions", topic, defaults, built_in)),
        replication=int(_first("replication", topic, defaults, built_in)),
        configs=_configs(built_in, defaults, topic),
        schema=base / topic["schema"] if "schema" in topic else None,
        key=topic.get("key"),
        dlq=None if topic.get("dlq", NO_DLQ) == NO_DLQ else topic["dlq"],
    )


def _dlq(
    tree: Mapping[str, Any], name: str, prefix: str, sources: tuple[str, ...], ordinary: Mapping[str, Topic]
) -> Topic:
    served = [ordinary[source] for source in sources if source in ordinary]
    defaults = _section(tree, "defaults", "dlq")
    declared = _section(tree, "topics").get(name, {})
    largest = max((topic.record_limit for topic in served), default=BROKER_MAX_MESSAGE_BYTES)
    derived = {
        "partitions": max((topic.partitions for topic in served), default=_default("topic", "partitions")),
        "replication": max((topic.replication for topic in served), default=_default("topic", "replication")),
        "retention": _default("dlq", "retention"),
        "cleanup": _default("dlq", "cleanup"),
        "configs": {RECORD_LIMIT: largest + LETTER_HEADROOM},
    }
    own = _configs(defaults, declared)
    return Topic(
        name=name,
        kafka_name=prefix + name,
        partitions=int(_first("partitions", declared, defaults, derived)),
        replication=int(_first("replication", declared, defaults, derived)),
        configs=_configs(derived, defaults, declared),
        key=declared.get("key"),
        is_dlq=True,
        dlq_for=tuple(topic.name for topic in served),
        derived=name not in _section(tree, "topics"),
        follows=RECORD_LIMIT not in own,
    )


def _configs(*layers: Mapping[str, Any]) -> dict[str, str]:
    """The topic configs of several layers, the later over the earlier."""
    found: dict[str, str] = {}
    for layer in layers:
        if "retention" in layer:
            found["retention.ms"] = config_value("retention.ms", layer["retention"])
        if "cleanup" in layer:
            found["cleanup.policy"] = layer["cleanup"]
        found.update(
            {key: config_value(key, value) for key, value in layer.get("configs", {}).items() if _usable(key, value)}
        )
    return found


def _usable(key: str, value: object) -> bool:
    """Whether the config can be used; one that cannot is a finding (`checks.topics`) and no pipeline is built."""
    try:
        config_value(key, value)
    except ValueError:
        return False
    return True


def _first(key: str, *layers: Mapping[str, Any]) -> Any:
    return next(layer[key] for layer in layers if key in layer)


def _default(kind: str, key: str) -> Any:
    return grammar.default("defaults", kind, key)


def _section(tree: Mapping[str, Any], *path: str) -> dict[str, Any]:
    value: Any = tree
    for step in path:
        value = value.get(step, {})
    found: dict[str, Any] = value
    return found
