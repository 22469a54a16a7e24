"""Dead letters as a worker writes them, without a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from orchestrator.delivery.headers.dead_letters import Death, Sender, write_letter
from orchestrator.delivery.outcome import Failed, Reason
from orchestrator.records import Headers, Outgoing, Record
from tests.support.worker import Project

#: 2025-01-31T12:00:00Z: when the events that became letters were written.
BORN = 1_738_324_800_000


def letter(
    project: Project,
    offset: int,
    value: bytes,
    *,
    key: bytes | None = b"k",
    topic: str = "in",
    handler: str = "h",
    partition: int = 0,
    headers: Headers = (),
    dlq: str | None = None,
    reason: Reason = "rejected",
    failed: Failed | None = None,
    written: int | None = None,
) -> Outgoing:
    """The letter of the event at `offset` of `topic`; `written` is its own time in milliseconds."""
    source = project.pipeline.topics[topic]
    target = project.pipeline.topics[dlq or f"{topic}.dlq"]
    record = Record(source.kafka_name, partition, offset, BORN + offset, key, value, headers)
    sender = Sender(project.pipeline.handlers[handler].group, project.pipeline.name, handler)
    failed = failed or Failed(
        "rejected", "below zero", "orchestrator.event.Reject", stack="Traceback: …\n", frame="h:9"
    )
    now = time.time()
    death = Death(reason, failed, 1, now, now, event_id=f"e{offset}")
    out = write_letter(record, sender, death, target.kafka_name, target.partitions)
    return out._replace(timestamp=written)


def schema(*violations: tuple[str, str]) -> dict[str, Any]:
    """`reason` and `failed` of a letter that breaks its contract."""
    return {"reason": "schema", "failed": Failed("schema", "broken", "ContractError", violations=violations)}


def letters(project: Project, count: int, **more: Any) -> Sequence[Outgoing]:
    """`count` letters of events 0, 1, … with the values {"k", "n"}, over seven keys."""
    return [letter(project, n, b'{"k":"k%d","n":%d}' % (n % 7, n), key=b"k%d" % (n % 7), **more) for n in range(count)]
