"""The handlers and events of a pipeline with every default filled in. Expects a tree that passed all checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import units
from orchestrator.config.model import (
    BreakerPolicy,
    DedupPolicy,
    EventTemplate,
    FusePolicy,
    Handler,
    Kind,
    ReadyCheck,
    RetryPolicy,
)
from orchestrator.config.syntax import grammar
from orchestrator.config.topics import config_text, handler_dlq

KINDS: tuple[Kind, ...] = ("python", "exec", "http", "service")


def resolve_handlers(tree: Mapping[str, Any]) -> dict[str, Handler]:
    """All handlers by name, in the file's order."""
    return {name: _handler(tree, name, own) for name, own in tree.get("handlers", {}).items()}


def resolve_events(tree: Mapping[str, Any], base: Path) -> dict[str, EventTemplate]:
    """All event templates by name, in the file's order."""
    return {
        name: EventTemplate(
            name=name,
            topic=event["topic"],
            example=base / event["example"] if "example" in event else None,
            generate=dict(event.get("generate", {})),
        )
        for name, event in tree.get("events", {}).items()
    }


def kind_of(handler: Mapping[str, Any]) -> Kind:
    """The handler's kind: the one of the four keys that it has."""
    return next(kind for kind in KINDS if kind in handler)


def group_of(tree: Mapping[str, Any], name: str, handler: Mapping[str, Any]) -> str:
    """The full name of the handler's consumer group."""
    prefix = f"{tree['namespace']}." if tree.get("namespace") else ""
    return prefix + str(handler.get("group") or f"{tree.get('pipeline', '')}.{name}")


def _handler(tree: Mapping[str, Any], name: str, own: Mapping[str, Any]) -> Handler:
    options = layered(tree, own)
    kind = kind_of(own)
    target = own[kind]
    return Handler(
        name=name,
        kind=kind,
        target=tuple(target) if isinstance(target, list) else target,
        group=group_of(tree, name, own),
        consumes=tuple(own.get("consumes", ())),
        produces=tuple(own.get("produces", ())),
        dlq=handler_dlq(tree, own),
        start_from=options["from"],
        replicas=int(options["replicas"]),
        concurrency=int(options["concurrency"]),
        ordering=options["ordering"],
        guarantee=options["guarantee"],
        timeout=units.seconds(options["timeout"]),
        retry=retry_of(options),
        dedup=dedup_of(options),
        breaker=_breaker(options),
        fuse=_fuse(options),
        unavailable=tuple(options["unavailable"]),
        port=int(own["port"]) if "port" in own else None,
        ready=ReadyCheck(own["ready"]["http"]) if "ready" in own else ReadyCheck(),
        restart=options["restart"],
        stop_timeout=units.seconds(options["stop-timeout"]),
        env={key: config_text(value) for key, value in options["env"].items()},
        inherit_env=tuple(named) if isinstance(named := options["inherit-env"], list) else named,
        essential=options["essential"],
        headers={key: config_text(value) for key, value in own.get("headers", {}).items()},
        health=own.get("health"),
        interpreter=options.get("interpreter") if kind == "python" else None,
        strikes=int(options["strikes"]),
        memory=units.size(options["memory"]) if "memory" in options else None,
    )


def layered(tree: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The handler's options over `defaults.handler` over the grammar's own defaults."""
    options = _built_in()
    for layer in (tree.get("defaults", {}).get("handler", {}), own):
        for key, value in layer.items():
            below = options.get(key)
            options[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return options


def _built_in() -> dict[str, Any]:
    names = (
        "from",
        "replicas",
        "concurrency",
        "ordering",
        "guarantee",
        "timeout",
        "unavailable",
        "restart",
        "stop-timeout",
        "env",
        "essential",
        "strikes",
    )
    return {name: grammar.default("defaults", "handler", name) for name in names} | {
        "inherit-env": False,
        "retry": {},
        "dedup": {},
        "breaker": {},
        "fuse": {},
    }


def retry_of(options: Mapping[str, Any]) -> RetryPolicy:
    """The retry policy, in seconds."""
    given = _stated("retry", options["retry"], ("attempts", "backoff", "max-backoff"))
    return RetryPolicy(int(given["attempts"]), units.seconds(given["backoff"]), units.seconds(given["max-backoff"]))


def dedup_of(options: Mapping[str, Any]) -> DedupPolicy | None:
    """The dedup policy, None when it is off. A mapping switches on what `defaults.handler` switched off."""
    given = options["dedup"]
    if given == "off":
        return None
    stated = _stated("dedup", given, ("by", "window"))
    return DedupPolicy(stated["by"], units.seconds(stated["window"]))


def _breaker(options: Mapping[str, Any]) -> BreakerPolicy | None:
    given = options["breaker"]
    if given == "off":
        return None
    stated = _stated("breaker", given, ("failures", "wait", "max-wait"))
    return BreakerPolicy(int(stated["failures"]), units.seconds(stated["wait"]), units.seconds(stated["max-wait"]))


def _fuse(options: Mapping[str, Any]) -> FusePolicy | None:
    given = options["fuse"]
    if given == "off":
        return None
    stated = _stated("fuse", given, ("share", "of"))
    return FusePolicy(float(stated["share"]), int(stated["of"]))


def _stated(option: str, given: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """What is given over what the grammar says otherwise."""
    return {key: given.get(key, grammar.default("defaults", "handler", option, key)) for key in keys}
