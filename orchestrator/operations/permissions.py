"""What the handlers of a pipeline need to be allowed, and the look at that before any of them starts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping

from orchestrator.config.model import NO_DLQ, Handler, KafkaSettings, Pipeline
from orchestrator.errors import ForbiddenError
from orchestrator.records import Permission

#: Properties that say who a client is: with others for consumers or producers, the admin client sees another user.
_IDENTITY = ("sasl.", "ssl.", "security.")


def needed(pipeline: Pipeline, handler: Handler) -> Iterator[Permission]:
    """What one handler needs, in the order in which it would miss it. READ and WRITE imply DESCRIBE."""
    for name in pipeline.inputs_of(handler).kafka_names:
        yield Permission("READ", "topic", name)
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
    missing = [*_missing(pipeline, handlers, bootstrap), *_without_transactions(pipeline, handlers, bootstrap)]
    if missing:
        raise ForbiddenError(missing)


def _missing(pipeline: Pipeline, handlers: Collection[Handler], bootstrap: str) -> list[Permission]:
    """What the admin client knows that its user may not do: where the others are the same user."""
    from orchestrator.kafka.clients import Clients

    if not _secured(pipeline.kafka):
        return []
    wanted = list(dict.fromkeys(one for handler in handlers for one in needed(pipeline, handler)))
    admin = Clients(pipeline.kafka, bootstrap).access()
    allowed: dict[tuple[str, str], Collection[str]] = {}
    for kind, ask in (("topic", admin.topics), ("group", admin.groups)):
        found: Mapping[str, Collection[str]] = ask(list(dict.fromkeys(one.name for one in wanted if one.kind == kind)))
        allowed |= {(kind, name): operations for name, operations in found.items()}
    return [one for one in wanted if not _may(one, allowed.get((one.kind, one.name)))]


def _without_transactions(pipeline: Pipeline, handlers: Collection[Handler], bootstrap: str) -> Iterator[Permission]:
    """What handlers miss whose `guarantee` is exactly-once: asked as the user of their producers."""
    from orchestrator.kafka.admin.permissions import may_transact
    from orchestrator.kafka.clients import Clients
    from orchestrator.worker.produce.transactional_id import instance_id, transactional_id

    exact = [handler for handler in handlers if handler.guarantee == "exactly-once"]
    if not exact or not _known(pipeline.kafka.client, pipeline.kafka.producer):
        return
    properties = Clients(pipeline.kafka, bootstrap).producer_properties()
    instance = instance_id(os.environ, pipeline.state_dir)
    for handler in exact:
        if not may_transact(properties, transactional_id(handler, instance, 0)):
            yield Permission("WRITE", "transactional id", handler.group, prefixed=True)


def _may(permission: Permission, operations: Collection[str] | None) -> bool:
    """What the cluster says nothing about may be allowed: the handler finds out."""
    return operations is None or permission.operation in operations or "ALL" in operations


def _secured(kafka: KafkaSettings) -> bool:
    """Whether all clients are one user whom the cluster knows."""
    return _known(kafka.client) and not _known(kafka.consumer, kafka.producer, kafka.admin)


def _known(*properties: Mapping[str, str]) -> bool:
    """Whether these say who a client is."""
    return any(name.startswith(_IDENTITY) for kind in properties for name in kind)
