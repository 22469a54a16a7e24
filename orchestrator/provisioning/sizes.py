"""How large the records of each topic may be, and so those of its DLQs and of the topics of redriven letters.

Rules:
- What counts is the limit in force (`max.message.bytes` of the topic, else the broker's `message.max.bytes`): somebody
  else may have raised it, and what it was before the sync is in the log already.
- A DLQ without a limit in the file takes what its sources take, and the headers of a letter on top. It is never
  lowered: larger letters may be on their way to it.
- A limit in the file is the user's. A DLQ that is too small by it stays so, and that is noted.
- A limit that the cluster does not let us see is taken from the file, and that is noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from orchestrator.config.clients import narrower
from orchestrator.config.model import RECORD_LIMIT, Handler, Pipeline, Topic
from orchestrator.config.topics import LETTER_HEADROOM
from orchestrator.provisioning.ownership import Claims
from orchestrator.records import ClusterState, TopicSpec

#: The largest value that Kafka takes for a limit: a signed number of 32 bits.
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """`limits`: the most bytes that a batch of records may have, by the cluster's name of the topic; for those whose
    limit follows from other topics'. `notes`: what is assumed, and what is too small, one sentence each.
    """

    limits: Mapping[str, int]
    notes: tuple[str, ...] = ()

    def of(self, spec: TopicSpec) -> TopicSpec:
        """`spec` with the limit that follows from the cluster, if it does."""
        limit = self.limits.get(spec.name)
        if limit is None:
            return spec
        return replace(spec, configs={**spec.configs, RECORD_LIMIT: str(limit)})

    def applied(self, topic: Topic) -> Topic:
        """The same for a topic of the file."""
        spec = self.of(TopicSpec(topic.kafka_name, topic.partitions, topic.replication, topic.configs))
        return replace(topic, configs=spec.configs)


def sizes(pipeline: Pipeline, actual: ClusterState, claims: Claims, broker_limit: int | None) -> Sizes:
    """Pure. `broker_limit` is the broker's `message.max.bytes`, None when it is not known (or not needed)."""
    notes: list[str] = []
    ordinary = {t.name: t for t in pipeline.topics.values() if not t.is_dlq}
    seen = {name: _in_force(topic, actual, claims, broker_limit) for name, topic in ordinary.items()}
    limits = {topic.kafka_name: seen[name] or topic.record_limit for name, topic in ordinary.items()}
    for topic in pipeline.topics.values():
        if topic.is_dlq:
            limits[topic.kafka_name] = _dlq(topic, ordinary, seen, actual, notes)
    for name, handler in pipeline.redrive_topics().items():
        limits[name] = max(_redriven(pipeline, handler, limits), _now(name, actual) or 0)
    notes += _clients(pipeline, limits)
    own = {topic.kafka_name for topic in pipeline.topics.values() if not topic.follows}
    return Sizes({name: limit for name, limit in limits.items() if name not in own}, tuple(notes))


def _clients(pipeline: Pipeline, limits: Mapping[str, int]) -> Iterator[str]:
    """Where a client's limit that the user sets is below what a topic takes on the cluster."""
    if not limits:
        return
    largest = max(limits, key=limits.__getitem__)
    for kind in ("client", "producer", "consumer"):
        for name, most in narrower(kind, getattr(pipeline.kafka, kind), limits[largest]):
            yield (
                f"kafka.{kind}.{name} lets {most} bytes through, and {largest} takes {limits[largest]}: a larger "
                f"record can be neither sent nor read; leave {name} out"
            )


def needs_broker(pipeline: Pipeline, actual: ClusterState, claims: Claims) -> bool:
    """Whether the limit of any topic will be the broker's, and no topic shows which that is."""
    if _shown(actual) is not None:
        return False
    return any(
        RECORD_LIMIT not in topic.configs
        and topic.kafka_name not in actual.unknown
        and _in_force(topic, actual, claims, None) is None
        and not _hidden(topic.kafka_name, actual)
        for topic in pipeline.topics.values()
        if not topic.is_dlq
    )


def _in_force(topic: Topic, actual: ClusterState, claims: Claims, broker_limit: int | None) -> int | None:
    """The larger of what the topic takes now and once it is as declared; None where the cluster does not say."""
    now = _now(topic.kafka_name, actual)
    if RECORD_LIMIT in topic.configs:
        return max(now or 0, topic.record_limit)
    state = actual.topics.get(topic.kafka_name)
    if state is None:
        return None if topic.kafka_name in actual.unknown else _shown(actual) or broker_limit
    mine = claims.mine(state)
    if now is not None and mine is not None and RECORD_LIMIT in mine.configs:
        # This pipeline set it, and the file does not any more: it goes back to the broker's.
        return max(now, _default(topic.kafka_name, actual) or broker_limit or 0)
    return now


def _dlq(
    topic: Topic,
    ordinary: Mapping[str, Topic],
    seen: Mapping[str, int | None],
    actual: ClusterState,
    notes: list[str],
) -> int:
    served = [ordinary[name] for name in topic.dlq_for if name in ordinary]
    assumed = [source for source in served if seen[source.name] is None]
    needed = {source.kafka_name: (seen[source.name] or source.record_limit) + LETTER_HEADROOM for source in served}
    largest = max(needed, key=needed.__getitem__, default=None)
    for source in assumed if topic.follows else ():
        notes.append(_assumed(topic, source, actual))
    if not topic.follows:
        own = topic.record_limit
        if largest is not None and own < needed[largest]:
            notes.append(_too_small(topic.kafka_name, own, largest, needed[largest] - LETTER_HEADROOM))
        return own
    wanted = max((topic.record_limit if largest is None else needed[largest]), _now(topic.kafka_name, actual) or 0)
    return min(wanted, _MOST)


def _redriven(pipeline: Pipeline, handler: Handler, limits: Mapping[str, int]) -> int:
    """What the sources take with the headers of a letter, and whatever the DLQs took."""
    needed = [limits[source.kafka_name] + LETTER_HEADROOM for source in pipeline.inputs_of(handler).ordinary]
    dlqs = (pipeline.topics[dlq].kafka_name for dlq in pipeline.dlqs_of(handler))
    return min(max([*needed, *(limits[dlq] for dlq in dlqs)]), _MOST)


def _now(name: str, actual: ClusterState) -> int | None:
    state = actual.topics.get(name)
    return None if state is None else state.record_limit


def _default(name: str, actual: ClusterState) -> int | None:
    """What applies to the topic once it sets no limit of its own."""
    state = actual.topics.get(name)
    text = "" if state is None else state.defaults.get(RECORD_LIMIT, "")
    return int(text) if text.isdecimal() else None


def _shown(actual: ClusterState) -> int | None:
    """The broker's limit, as far as a topic without one of its own shows it."""
    known: Iterable[int | None] = (_default(name, actual) for name in actual.topics)
    return max((limit for limit in known if limit is not None), default=None)


def _hidden(name: str, actual: ClusterState) -> bool:
    state = actual.topics.get(name)
    return state is not None and state.overrides is None


def _assumed(dlq: Topic, source: Topic, actual: ClusterState) -> str:
    there = source.kafka_name in actual.topics or source.kafka_name in actual.unknown
    what = f"the topic {source.kafka_name}" if there else "the cluster (for message.max.bytes of the broker)"
    return (
        f"{dlq.kafka_name} is sized by the file ({source.record_limit} bytes for {source.kafka_name}): the limit in "
        f"force is not known; kpipe needs DESCRIBE_CONFIGS on {what}"
    )


def _too_small(dlq: str, own: int, source: str, limit: int) -> str:
    return (
        f"{dlq} takes {own} bytes (its own max.message.bytes) and {source} {limit}: a larger letter would be cut; "
        f"leave max.message.bytes of {dlq} out and it follows its sources, or make it {limit + LETTER_HEADROOM}"
    )
