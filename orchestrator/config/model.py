"""A valid pipeline as frozen values: what the rest of kpipe reads instead of YAML.

Durations are seconds (float, `UNLIMITED` for "unlimited"), sizes are bytes (int). Topic names are the file's own
("orders.created"); `Topic.kafka_name` adds the namespace. Everything derived (DLQs, groups) is already filled in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

UNLIMITED = math.inf
#: Stands for a state folder that was not given.
_BESIDE = Path()
#: What the name of a handler's topic for redriven letters ends in.
REDRIVE = ".redrive"
#: The topic config that limits records: each batch of them, compressed, in bytes.
RECORD_LIMIT = "max.message.bytes"
#: What a broker allows when `max.message.bytes` is not set (Kafka's `message.max.bytes`).
BROKER_MAX_MESSAGE_BYTES = 1_048_588


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """`bootstrap` is "" when kpipe runs the broker. The mappings are librdkafka properties as strings."""

    bootstrap: str = ""
    client: Mapping[str, str] = field(repr=False, default_factory=dict)
    consumer: Mapping[str, str] = field(repr=False, default_factory=dict)
    producer: Mapping[str, str] = field(repr=False, default_factory=dict)
    admin: Mapping[str, str] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `configs` are the broker's topic configs as strings, `retention.ms` and `cleanup.policy` included.

    `dlq` is the topic that takes events breaking this one's contract (None: none). `dlq_for` names the topics that
    a DLQ serves (empty for a topic that is none). `derived` is true when the file only named it, `follows` when its
    `max.message.bytes` is not the file's, but follows from those of the topics that it serves.
    """

    name: str
    kafka_name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]
    schema: Path | None = None
    key: str | None = None
    dlq: str | None = None
    is_dlq: bool = False
    dlq_for: tuple[str, ...] = ()
    derived: bool = False
    follows: bool = False

    @property
    def record_limit(self) -> int:
        """The largest record, in bytes, that the topic takes by the file. The cluster may say otherwise."""
        return int(self.configs.get(RECORD_LIMIT, BROKER_MAX_MESSAGE_BYTES))


@dataclass(frozen=True, slots=True)
class EventTemplate:
    """What `kpipe send NAME` sends: the example file, with generated fields (`uuid`, `now`) put over it."""

    name: str
    topic: str
    example: Path | None = None
    generate: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` counts the first one; `backoff` doubles up to `max_backoff` (seconds)."""

    attempts: int = 5
    backoff: float = 0.1
    max_backoff: float = 30.0


@dataclass(frozen=True, slots=True)
class DedupPolicy:
    """Ids are the value's field `by`; a copy within `window` seconds of record time is skipped."""

    by: str = "eventId"
    window: float = 600.0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`failures` in a row open the breaker; it lets one event try after `wait` seconds, doubling up to `max_wait`."""

    failures: int = 5
    wait: float = 1.0
    max_wait: float = 30.0


@dataclass(frozen=True, slots=True)
class FusePolicy:
    """More than `share` (above 0, at most 1) of the last `of` events given up stop the handler."""

    share: float = 0.5
    of: int = 100


@dataclass(frozen=True, slots=True)
class ReadyCheck:
    """When a service counts as ready: an HTTP path answers 2xx, the port accepts, or (neither) it is alive."""

    http: str | None = None


Kind = Literal["python", "exec", "http", "service"]
#: Handlers may say `dlq: none`: what cannot be handled is logged whole, skipped and counted.
NO_DLQ: Literal["none"] = "none"


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler. `target` is `module:function`, an argv tuple, a URL or a command, by `kind`.

    `dlq` is the DLQ that takes what the handler gives up on: a topic's name, `NO_DLQ`, or None, which means the
    source topic's own DLQ. `group` is the consumer group's full name. `memory` is in bytes. `inherit_env` is True for
    kpipe's whole environment, else names the variables of it that the handler gets.
    """

    name: str
    kind: Kind
    target: str | tuple[str, ...]
    group: str
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    dlq: str | None = None
    start_from: Literal["earliest", "latest"] = "earliest"
    replicas: int = 1
    concurrency: int = 1
    ordering: Literal["key", "partition", "none"] = "key"
    guarantee: Literal["at-least-once", "exactly-once"] = "at-least-once"
    timeout: float = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    dedup: DedupPolicy | None = field(default_factory=DedupPolicy)
    breaker: BreakerPolicy | None = field(default_factory=BreakerPolicy)
    fuse: FusePolicy | None = field(default_factory=FusePolicy)
    unavailable: tuple[str, ...] = ()
    port: int | None = None
    ready: ReadyCheck = field(default_factory=ReadyCheck)
    restart: bool = True
    stop_timeout: float = 30.0
    env: Mapping[str, str] = field(repr=False, default_factory=dict)
    inherit_env: bool | tuple[str, ...] = False
    essential: bool = False
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    health: str | None = None
    interpreter: str | None = None
    strikes: int = 2
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The topics that one handler reads.

    `topics` are those that it consumes, in the file's order. `redrive` is the topic of its redriven letters by the
    cluster's name: declared by no file, and made with the first letter. None where no letter can go back to it.
    """

    topics: tuple[Topic, ...]
    redrive: str | None

    @property
    def kafka_names(self) -> tuple[str, ...]:
        """All of them by the cluster's names; the one of redriven letters comes last."""
        names = tuple(topic.kafka_name for topic in self.topics)
        return names if self.redrive is None else (*names, self.redrive)

    @property
    def ordinary(self) -> tuple[Topic, ...]:
        """The consumed topics that are no DLQs: redriven letters come from events of these."""
        return tuple(topic for topic in self.topics if not topic.is_dlq)


def redrive_name(namespace: str, pipeline: str, handler: str) -> str:
    """The cluster's name of the topic for letters that go back to a handler."""
    return f"{namespace}.{pipeline}.{handler}{REDRIVE}" if namespace else f"{pipeline}.{handler}{REDRIVE}"


def state_dir_of(base: Path, environ: Mapping[str, str]) -> Path:
    """`KPIPE_STATE_DIR`, which is how `kpipe smoke` keeps apart from what runs here; else `.kpipe` in that folder."""
    return Path(environ.get("KPIPE_STATE_DIR") or base / ".kpipe")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The whole file. `base` is its folder; `tree` is the merged, interpolated document as plain JSON values.

    `schemas` has each schema without references, by the text of `Topic.schema`, as its file was when it was read; None:
    they are not read yet (`contracts.with_schemas`). `state_dir` is where this project's broker address, logs, data and
    control socket live, `.kpipe` in `base` unless given. These four are enough to build the same `Pipeline` in another
    process (`config.building`); workers get them over a pipe. They may hold secrets: never print them.
    """

    name: str
    namespace: str
    base: Path
    kafka: KafkaSettings
    topics: Mapping[str, Topic]
    events: Mapping[str, EventTemplate]
    handlers: Mapping[str, Handler]
    tree: Mapping[str, Any] = field(repr=False, default_factory=dict)
    schemas: Mapping[str, Any] | None = field(repr=False, default=None)
    state_dir: Path = _BESIDE

    def __post_init__(self) -> None:
        if self.state_dir is _BESIDE:  # not `==`: KPIPE_STATE_DIR may be `.`, which equals it
            object.__setattr__(self, "state_dir", state_dir_of(self.base, {}))

    def handlers_of(self, topic: str) -> tuple[Handler, ...]:
        """The handlers that consume `topic`, in the file's order."""
        return tuple(h for h in self.handlers.values() if topic in h.consumes)

    def inputs_of(self, handler: Handler) -> Inputs:
        """The topics that `handler` reads. A service has none."""
        topics = tuple(self.topics[name] for name in handler.consumes)
        redrivable = any(not topic.is_dlq for topic in topics)
        return Inputs(topics, redrive_name(self.namespace, self.name, handler.name) if redrivable else None)

    def dlq_of(self, handler: Handler, topic: str) -> str | None:
        """The DLQ for what `handler` gives up on from `topic`; None when it is to be logged and skipped."""
        if handler.dlq == NO_DLQ:
            return None
        return handler.dlq or self.topics[topic].dlq

    def dlqs_of(self, handler: Handler) -> tuple[str, ...]:
        """The DLQs that events of `handler` can end in, each once: given up on, or breaking their topic's contract."""
        named = (dlq for name in handler.consumes for dlq in (self.dlq_of(handler, name), self.topics[name].dlq))
        return tuple(dict.fromkeys(dlq for dlq in named if dlq is not None))

    def writes_contract_letters(self, handler: Handler, topic: str) -> bool:
        """Whether `handler` is the one that writes the letters of events that break the contract of `topic`.

        Of several handlers that consume a topic it is the first in the file.
        """
        return self.handlers_of(topic)[0].name == handler.name

    def redrive_topics(self) -> dict[str, Handler]:
        """The topics of redriven letters by the cluster's names, each with the handler that reads it."""
        topics = ((self.inputs_of(handler).redrive, handler) for handler in self.handlers.values())
        return {topic: handler for topic, handler in topics if topic is not None}
