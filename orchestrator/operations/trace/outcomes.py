"""What every handler made of every record of a trace, by what its group has committed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.model import Pipeline
from orchestrator.operations.group_positions import Standings, settled_by
from orchestrator.operations.trace.causality import HandlerOutcome, Node, RecordPlace, RecordReader, outcome_of


def outcomes_of(
    pipeline: Pipeline, bootstrap: str, reading: RecordReader, roots: Sequence[Node]
) -> dict[RecordPlace, list[HandlerOutcome]]:
    """The outcomes of each record below `roots`, one for each handler that gets it. Raises BrokerError."""
    nodes = [node for root in roots for node in root.walk()]
    settled = _settled(pipeline, bootstrap, reading, nodes)
    return {
        node.place: [
            outcome_of(handler, node, (handler.name, node.place) in settled, nodes)
            for handler in reading.consumers(pipeline, node)
        ]
        for node in nodes
    }


def _settled(
    pipeline: Pipeline, bootstrap: str, reading: RecordReader, nodes: Sequence[Node]
) -> set[tuple[str, RecordPlace]]:
    """The records that handlers have settled, as far as they have committed that for the topics as they are now."""
    places: dict[str, list[RecordPlace]] = {}
    for node in nodes:
        for handler in reading.consumers(pipeline, node):
            places.setdefault(handler.name, []).append(node.place)
    settled = set()
    asked = Standings(pipeline, bootstrap)
    ids = asked.topic_ids(node.place.tp for node in nodes)
    for name, wanted in places.items():
        made = asked.commits(pipeline.handlers[name], {place.tp for place in wanted})
        settled |= {(name, place) for place in wanted if settled_by(made.get(place.tp), place, ids)}
    return settled
