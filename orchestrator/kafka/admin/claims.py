"""Which pipeline claims which topic, kept on the cluster itself: the compacted topic `kpipe.claims`.

Kafka refuses topic configs that it does not know, so a topic cannot carry a mark of its own; a group's offsets would
expire. One partition puts all claims into one order; compaction keeps the last of each topic and owner, and a
tombstone removes it. The topic is made when the first claim is written, with the broker's default replication.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import BrokerError
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.producer import Producer, SendFailure
from orchestrator.kafka.reader import Reader
from orchestrator.records import CLAIMS_TOPIC, Claim, Outgoing, TopicPartition, TopicSpec

Key = tuple[str, str]
_VERSION = 1
_PARTITION = TopicPartition(CLAIMS_TOPIC, 0)
_SPEC = TopicSpec(CLAIMS_TOPIC, 1, -1, {"cleanup.policy": "compact"})
#: Seconds until a claim has to be acknowledged.
_WRITE_SECONDS = 15.0


class ClaimsTopic:
    """The claims of one cluster. Being refused is an answer here, not an error: topics can be synced without."""

    def __init__(self, admin: ClusterAdmin, consumer: Mapping[str, Any], producer: Mapping[str, Any]) -> None:
        """`consumer` and `producer` are what `client_properties` makes for these kinds."""
        self._admin = admin
        self._consumer = consumer
        # An unwritten claim is told within seconds; there is no order between claims to keep.
        self._producer = {**producer, "message.timeout.ms": str(int(_WRITE_SECONDS * 1000))}

    def read(self) -> tuple[dict[Key, Claim], str]:
        """Every claim, and why they could not be read ("" when they could)."""
        claims: dict[Key, Claim] = {}
        try:
            with Reader(self._consumer) as reader:
                if not reader.partitions(CLAIMS_TOPIC):
                    return {}, ""
                for batch in reader.read(reader.beginnings([_PARTITION]), reader.ends([_PARTITION])):
                    for record in batch:
                        _take(claims, record.key, record.value)
        except BrokerError as problem:
            return {}, problem.message
        return claims, ""

    def write(self, claims: Mapping[Key, Claim | None]) -> str:
        """Keep these (None: forget) until every one is acknowledged; why it was not possible, or ""."""
        made = self._admin.create([_SPEC])[CLAIMS_TOPIC]
        # Somebody who may not create is told so even where it is there.
        if not (made is None or made.code == "TOPIC_ALREADY_EXISTS" or self._admin.describe([CLAIMS_TOPIC]).topics):
            return f"{CLAIMS_TOPIC} cannot be created: {made.message}"
        refused: list[str] = []
        producer = Producer(self._producer)
        for key, claim in claims.items():
            value = None if claim is None else _value(claim)
            producer.send(Outgoing(CLAIMS_TOPIC, _key(key), value, partition=0), _note(refused))
        left = producer.close(_WRITE_SECONDS)
        return refused[0] if refused else "no answer in time" if left else ""


def _note(refused: list[str]) -> Callable[[SendFailure | None, int, int], None]:
    def note(failure: SendFailure | None, _partition: int, _offset: int) -> None:
        if failure is not None:
            refused.append(f"{CLAIMS_TOPIC} cannot be written: {failure.message}")

    return note


def _key(key: Key) -> bytes:
    return json.dumps(key).encode()


def _value(claim: Claim) -> bytes:
    fields = {name: value for name, value in claim._asdict().items() if name not in ("topic", "owner")}
    return json.dumps({"version": _VERSION, **fields}).encode()


def _take(claims: dict[Key, Claim], raw_key: bytes | None, value: bytes | None) -> None:
    """Later records win. What is no claim, or one of another version of kpipe, counts as none."""
    try:
        topic, owner = json.loads(raw_key or b"")
        fields = None if value is None else json.loads(value)
        key = (str(topic), str(owner))
        if fields is None or fields["version"] != _VERSION:
            claims.pop(key, None)
            return
        claims[key] = Claim(
            *key,
            topic_id=str(fields["topic_id"]),
            created=fields["created"] is True,
            declared=fields["declared"] is True,
            configs=tuple(str(name) for name in fields["configs"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return
