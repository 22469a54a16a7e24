"""The topics of redriven letters: declared by no file, made when the first letter goes back, and this pipeline's.

Rules:
- One has the partitions of the largest topic that its letters can come from, and takes records as large as any of
  them and of their DLQs does (`sizes`).
- A letter has to be there for as long as it is in its DLQ: that is how it is known to have been sent back.
- A sync looks after those that exist as it does after declared topics, but never makes one, gives one more
  partitions, or keeps its letters for a shorter time.
- With its handler a topic goes out of the file: from then on it is left over, as any other that the pipeline made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.config.model import RECORD_LIMIT, Handler, Pipeline, Topic
from orchestrator.config.topics import LETTER_HEADROOM
from orchestrator.provisioning.plan import MIN_ISR
from orchestrator.records import ClusterState, TopicSpec, TopicState

_RETENTION = "retention.ms"
_UNLIMITED = "-1"


def redrive_specs(pipeline: Pipeline) -> tuple[TopicSpec, ...]:
    """One for each handler that letters can go back to, as it would be made if the cluster were as in the file."""
    made = (redrive_spec(pipeline, handler) for handler in pipeline.handlers.values())
    return tuple(spec for spec in made if spec is not None)


def redrive_spec(pipeline: Pipeline, handler: Handler) -> TopicSpec | None:
    """The handler's topic; None for one that no letter can come from."""
    inputs = pipeline.inputs_of(handler)
    if inputs.redrive is None:
        return None
    sources = inputs.ordinary
    configs = {
        "cleanup.policy": "delete",
        RECORD_LIMIT: str(max(s.record_limit for s in sources) + LETTER_HEADROOM),
        _RETENTION: _longest(_kept(pipeline.topics[dlq]) for dlq in pipeline.dlqs_of(handler)),
    }
    in_sync = [int(s.configs[MIN_ISR]) for s in sources if s.configs.get(MIN_ISR, "").isdecimal()]
    if in_sync:
        configs[MIN_ISR] = str(max(in_sync))
    partitions, replication = max(s.partitions for s in sources), max(s.replication for s in sources)
    return TopicSpec(inputs.redrive, partitions, replication, configs)


def as_they_are(specs: Sequence[TopicSpec], actual: ClusterState) -> tuple[TopicSpec, ...]:
    """Those of `specs` that exist, as they should be: no larger than they are, and kept no shorter."""
    return tuple(_adopted(spec, actual.topics[spec.name]) for spec in specs if spec.name in actual.topics)


def _adopted(spec: TopicSpec, state: TopicState) -> TopicSpec:
    kept = (state.overrides or {}).get(_RETENTION)
    configs = spec.configs if kept is None else {**spec.configs, _RETENTION: _longest([kept, spec.configs[_RETENTION]])}
    configs = {key: value for key, value in configs.items() if key != MIN_ISR or int(value) <= state.replication}
    return replace(spec, partitions=state.partitions, replication=state.replication, configs=configs)


def _kept(dlq: Topic) -> str:
    """How long the DLQ keeps a letter; compaction keeps the last of each key for ever."""
    return dlq.configs.get(_RETENTION, _UNLIMITED) if dlq.configs.get("cleanup.policy") == "delete" else _UNLIMITED


def _longest(times: Iterable[str]) -> str:
    """The longest of some retentions in milliseconds; -1 is for ever, and so is none at all."""
    return max(times, key=lambda text: float("inf") if int(text) < 0 else int(text), default=_UNLIMITED)
