"""What a worker has to know about each topic it consumes, worked out once from the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.config.model import Handler, Pipeline
from orchestrator.contracts import Contract


@dataclass(frozen=True, slots=True)
class Dlq:
    """A dead letter queue by the cluster's name, with its declared partitions."""

    name: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Source:
    """One consumed topic.

    `contract_dlq` takes events that break the contract, if this worker is the one who writes those letters
    (`writes_contract_letters`); `dlq` takes what the handler gives up on. None: log the record and skip it.
    """

    topic: str
    kafka_name: str
    contract: Contract | None
    is_dlq: bool
    contract_dlq: Dlq | None
    writes_contract_letters: bool
    dlq: Dlq | None


def sources_of(pipeline: Pipeline, handler: Handler, contracts: Mapping[str, Contract]) -> dict[str, Source]:
    """The handler's topics, by the cluster's name."""
    found = {}
    for name in handler.consumes:
        topic = pipeline.topics[name]
        own = pipeline.dlq_of(handler, name)
        first = pipeline.handlers_of(name)[0].name == handler.name
        found[topic.kafka_name] = Source(
            topic=name,
            kafka_name=topic.kafka_name,
            contract=None if topic.is_dlq else contracts.get(name),
            is_dlq=topic.is_dlq,
            contract_dlq=_dlq(pipeline, topic.dlq or own),
            writes_contract_letters=first,
            dlq=_dlq(pipeline, own),
        )
    return found


def _dlq(pipeline: Pipeline, name: str | None) -> Dlq | None:
    if name is None:
        return None
    topic = pipeline.topics[name]
    return Dlq(topic.kafka_name, topic.partitions)
