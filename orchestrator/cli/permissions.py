"""What the handlers of a pipeline need to be allowed, and the look at that before any of them starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from orchestrator.config.model import NO_DLQ, Handler, KafkaSettings, Pipeline
from orchestrator.errors import ForbiddenError
from orchestrator.records import Permission

#: Properties that say who a client is: with others for consumers or producers, the admin client sees another user.
_IDENTITY = ("sasl.", "ssl.", "security.")


def needed(pipeline: Pipeline, handler: Handler) -> Iterator[Permission]:
    """What one handler needs, in the order in which it would miss it. READ and WRITE imply DESCRIBE."""
    for name in handler.consumes:
        yield Permission("READ", "topic", pipeline.topics[name].kafka_name)
    redriven = pipeline.redrive_topic(handler) if handler.consumes else None
    if redriven is not None:
        yield Permission("READ", "topic", redriven)
    if handler.consumes:
        yield Permission("READ", "group", handler.group)
    for name in (*handler.produces, *sorted(_dlqs(pipeline, handler))):
        yield Permission("WRITE", "topic", pipeline.topics[name].kafka_name)


def _dlqs(pipeline: Pipeline, handler: Handler) -> set[str]:
    """Where its letters go: what it gives up on, and what breaks the contract of its topics."""
    named = {pipeline.dlq_of(handler, name) for name in handler.consumes if not pipeline.topics[name].is_dlq}
    if handler.dlq != NO_DLQ:
        named |= {pipeline.topics[name].dlq for name in handler.consumes}
    return {name for name in named if name is not None}


def require(pipeline: Pipeline, handlers: Collection[Handler], bootstrap: str) -> None:
    """Raises ForbiddenError with everything that the handlers would miss, as far as the cluster tells."""
    from orchestrator.kafka.permissions import AccessAdmin
    from orchestrator.kafka.properties import client_properties

    if not _secured(pipeline.kafka):
        return
    wanted = list(dict.fromkeys(one for handler in handlers for one in needed(pipeline, handler)))
    admin = AccessAdmin(client_properties(pipeline.kafka, "admin", bootstrap))
    allowed: dict[tuple[str, str], Collection[str]] = {}
    for kind, ask in (("topic", admin.topics), ("group", admin.groups)):
        found: Mapping[str, Collection[str]] = ask(list(dict.fromkeys(one.name for one in wanted if one.kind == kind)))
        allowed |= {(kind, name): operations for name, operations in found.items()}
    missing = [one for one in wanted if not _may(one, allowed.get((one.kind, one.name)))]
    if missing:
        raise ForbiddenError(missing)


def _may(permission: Permission, operations: Collection[str] | None) -> bool:
    """What the cluster says nothing about may be allowed: the handler finds out."""
    return operations is None or permission.operation in operations or "ALL" in operations


def _secured(kafka: KafkaSettings) -> bool:
    """Whether all clients are one user whom the cluster knows."""
    own = any(name.startswith(_IDENTITY) for kind in (kafka.consumer, kafka.producer, kafka.admin) for name in kind)
    return not own and any(name.startswith(_IDENTITY) for name in kafka.client)
