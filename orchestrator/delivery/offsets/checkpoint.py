"""What a commit says: an offset, and in its metadata the settled ranges above it and the accounting.

The metadata is at most 4,096 bytes (the broker's `offset.metadata.max.bytes`), versioned, and optional: what
cannot be read counts as none, and then the window above the offset is simply delivered again.

Version 1 is JSON: `{"v": 1, "s": settled, "n": [done, dead_lettered, skipped], "k": strikes, "t": topic, "b": birth}`,
where `settled` is base64 of unsigned LEB128 numbers, alternately the gap before a settled range and its length, counted
from the offset. `strikes` are three numbers for each event under suspicion: its distance from the offset, its thirds of
strikes, 1 while it runs alone. `topic` is the id of the topic that the offset is of, as Kafka's tools print it. `birth`
is base64 of LEB128 numbers: when the group began (seconds since 1970), then for each topic that it consumed the CRC-32
of its name and how many partitions it had. What is empty is left out, and readers ignore what they do not know.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.delivery.offsets.frontier import Ranges
from orchestrator.delivery.strikes import Strikes
from orchestrator.delivery.tally import Tally

VERSION = 1
#: Bytes of metadata that kpipe uses at most; the rest of the broker's 4,096 is reserve.
LIMIT = 3_800
#: Settled ranges above the frontier that always fit: 2 numbers each, at most 5 base64 characters a number here.
MOST_RANGES = 500
#: Events under suspicion that ride along; those with the most against them come first.
MOST_STRIKES = 16
#: Topics of a group's birth that ride along: 8 base64 characters each, so that half of the room is left.
MOST_BIRTH_TOPICS = 200


@dataclass(frozen=True, slots=True)
class Birth:
    """When a consumer group began (seconds since 1970), and with how many partitions of each topic.

    `partitions` is by the CRC-32 of the topic's name.
    """

    at: int
    partitions: Mapping[int, int] = field(default_factory=dict)

    def without(self, topic_hash: int) -> Birth:
        """The same without one topic: what is of that name now came later."""
        return Birth(self.at, {name: count for name, count in self.partitions.items() if name != topic_hash})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed state of one partition: everything below `offset` and in `settled` is settled.

    `topic_id` is the id of the topic that all of that is about, "" when it is not known. `epoch` is a leader epoch
    (KIP-320) of the log up to `offset` or later, -1 when it is not known; it is a field of the commit, not of its
    metadata. `birth` is kept by groups that began with `from: latest`.
    """

    offset: int
    settled: Ranges = ()
    tally: Tally = field(default_factory=Tally)
    strikes: tuple[tuple[int, Strikes], ...] = ()
    topic_id: str = ""
    epoch: int = -1
    birth: Birth | None = None

    def metadata(self) -> str:
        """This checkpoint as commit metadata. Ranges that do not fit are left out, the highest first."""
        ranges = self.settled[:MOST_RANGES]
        document: dict[str, object] = {
            "v": VERSION,
            "s": "",
            "n": [self.tally.done, self.tally.dead_lettered, self.tally.skipped],
        }
        if self.topic_id:
            document["t"] = self.topic_id
        if self.birth is not None:
            document["b"] = _packed_birth(self.birth)
        if self.strikes:
            worst = sorted(self.strikes, key=lambda s: (-s[1].solo, -s[1].thirds, s[0]))[:MOST_STRIKES]
            document["k"] = [n for at, held in worst for n in (at - self.offset, held.thirds, int(held.solo))]
        while True:
            document["s"] = base64.b64encode(_pack(self.offset, ranges)).decode()
            text = json.dumps(document, separators=(",", ":"))
            if len(text) <= LIMIT or not ranges:
                return text
            ranges = ranges[: len(ranges) * 3 // 4]


def read_checkpoint(offset: int, metadata: str | None, epoch: int = -1) -> Checkpoint:
    """The checkpoint that a commit stands for; foreign or broken metadata counts as none. Never raises."""
    try:
        document = json.loads(metadata or "")
        if document["v"] != VERSION:
            return Checkpoint(offset, epoch=epoch)
        done, dead, skipped = (int(n) for n in document["n"])
        settled = _unpack(offset, base64.b64decode(document["s"], validate=True))
        tally, strikes = Tally(done, dead, skipped), _strikes(offset, document.get("k", ()))
        topic_id, birth = str(document.get("t", "")), _unpacked_birth(document.get("b"))
        return Checkpoint(offset, settled, tally, strikes, topic_id, epoch, birth)
    except (ValueError, TypeError, KeyError, OverflowError, binascii.Error, RecursionError):
        return Checkpoint(offset, epoch=epoch)


def _packed_birth(birth: Birth) -> str:
    """At most `MOST_BIRTH_TOPICS` topics: one that does not fit counts as having come later."""
    topics = sorted(birth.partitions.items())[:MOST_BIRTH_TOPICS]
    numbers = [max(0, birth.at), *(number for topic in topics for number in topic)]
    return base64.b64encode(b"".join(_leb128(number) for number in numbers)).decode()


def _unpacked_birth(text: Any) -> Birth | None:
    if not text:
        return None
    at, *topics = _from_leb128(base64.b64decode(text, validate=True))
    return Birth(at, dict(zip(topics[::2], topics[1::2], strict=True)))


def _strikes(offset: int, numbers: Sequence[int]) -> tuple[tuple[int, Strikes], ...]:
    n = [int(number) for number in numbers]
    return tuple(
        (offset + at, Strikes(thirds, bool(solo))) for at, thirds, solo in zip(n[::3], n[1::3], n[2::3], strict=True)
    )


def _pack(offset: int, ranges: Ranges) -> bytes:
    def numbers() -> Iterator[int]:
        at = offset
        for first, end in ranges:
            yield first - at
            yield end - first
            at = end

    return b"".join(_leb128(n) for n in numbers())


def _unpack(offset: int, data: bytes) -> Ranges:
    numbers = list(_from_leb128(data))
    ranges: list[tuple[int, int]] = []
    at = offset
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        if length == 0:
            raise ValueError("an empty range")
        ranges.append((at + gap, at + gap + length))
        at += gap + length
    return tuple(ranges)


def _leb128(n: int) -> bytes:
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _from_leb128(data: Iterable[int]) -> Iterator[int]:
    n = shift = 0
    for byte in data:
        n |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise ValueError("a number of more than 64 bits")
        if byte < 0x80:
            yield n
            n = shift = 0
    if shift:
        raise ValueError("the last number is cut off")
