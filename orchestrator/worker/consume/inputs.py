"""What a worker has to know about each topic it consumes, worked out once from the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.config.model import Handler, Pipeline
from orchestrator.contracts import Contract
from orchestrator.delivery.headers.redrive import restore
from orchestrator.delivery.outcome import Reason
from orchestrator.records import Record


@dataclass(frozen=True, slots=True)
class Dlq:
    """A dead letter queue by the cluster's name, with its declared partitions."""

    name: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Input:
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
    #: Of the topic of redriven letters: where its events come from, by the cluster's names. None for all others.
    origins: Mapping[str, Input] | None = None

    def dlq_for(self, reason: Reason) -> Dlq | None:
        """Where the letter of an event of this topic goes; None: nowhere."""
        return self.contract_dlq if reason in ("decode", "schema") else self.dlq

    @property
    def plain(self) -> bool:
        """Neither a DLQ nor redriven letters: what its events are stands in their values alone."""
        return not self.is_dlq and self.origins is None

    def at_origin(self, record: Record) -> tuple[Input, Record]:
        """Where the event belongs and what it was there: itself, unless it is a redriven one.

        A record in the topic of redriven letters that tells of no origin, or of one that the handler does not
        consume, stays where it is.
        """
        if self.origins is None:
            return self, record
        event = restore(record)
        origin = None if event is None else self.origins.get(event.topic)
        return (self, record) if origin is None or event is None else (origin, event)


def sources_of(pipeline: Pipeline, handler: Handler, contracts: Mapping[str, Contract]) -> dict[str, Input]:
    """The handler's topics, by the cluster's name; the one of its redriven letters comes last."""
    found = {}
    inputs = pipeline.inputs_of(handler)
    for topic in inputs.topics:
        own = pipeline.dlq_of(handler, topic.name)
        found[topic.kafka_name] = Input(
            topic=topic.name,
            kafka_name=topic.kafka_name,
            contract=None if topic.is_dlq else contracts.get(topic.name),
            is_dlq=topic.is_dlq,
            contract_dlq=_dlq(pipeline, topic.dlq or own),
            writes_contract_letters=pipeline.writes_contract_letters(handler, topic.name),
            dlq=_dlq(pipeline, own),
        )
    if inputs.redrive is None:
        return found
    return {**found, inputs.redrive: _redriven(inputs.redrive, found)}


def _redriven(name: str, found: Mapping[str, Input]) -> Input:
    """The topic of redriven letters. Of what breaks its contract there, each handler writes a letter of its own: a
    letter may have been sent back to one of them only."""
    origins = {kafka_name: source for kafka_name, source in found.items() if not source.is_dlq}
    dlq = next((source.dlq for source in origins.values() if source.dlq is not None), None)
    return Input(name, name, None, False, dlq, True, dlq, origins)


def _dlq(pipeline: Pipeline, name: str | None) -> Dlq | None:
    if name is None:
        return None
    topic = pipeline.topics[name]
    return Dlq(topic.kafka_name, topic.partitions)
