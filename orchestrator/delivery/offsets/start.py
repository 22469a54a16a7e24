"""Where an epoch of a partition starts, and whether anybody has to be told. DESIGN section 5, "Identity" and step 2.

Rules, the first that fits:
- A topic that was made anew starts at its beginning: an offset of the former topic says nothing about this one.
- `from` holds for new groups. A partition that appears once its group has commits starts at its beginning.
- An offset below the log's beginning goes on at the first one that exists: retention removed what came before.
- An offset beyond the log's end goes on where the log parted from what was committed, else at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

from orchestrator.delivery.offsets.checkpoint import Birth, Checkpoint
from orchestrator.delivery.offsets.frontier import Ranges
from orchestrator.records import TopicPartition

#: Every member of a new group has committed where it starts within so long after the first one (seconds): a partition
#: without a commit later than that had one that has expired.
BIRTH_SECONDS = 300


class StartReason(StrEnum):
    """Why an epoch does not start at the committed offset."""

    REMADE = "remade"
    REMOVED = "removed"
    TRUNCATED = "truncated"
    BEYOND = "beyond"
    EXPIRED = "expired"


class Jump(NamedTuple):
    """An epoch starts at `at` instead of `wanted` (None: nothing was committed); the log has `low` to `high`."""

    cause: StartReason
    wanted: int | None
    at: int
    low: int
    high: int


class Start(NamedTuple):
    """The state that an epoch starts with. `jump` is what has to be told, None where the commit holds."""

    checkpoint: Checkpoint
    jump: Jump | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """A partition's log as the cluster has it: its first offset, the next one, and the id of its topic ("": unknown).

    `former_id` is the id that this worker saw before under the same name, "" for none.
    """

    tp: TopicPartition
    low: int
    high: int
    topic_id: str = ""
    former_id: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What a group's commits in all its partitions say of it. `births` are those that its commits carry."""

    commits: int = 0
    births: Sequence[Birth] = field(default_factory=tuple)

    def is_new_to(self, tp: TopicPartition, now: float) -> bool | None:
        """Whether the partition was there when the group began, as far as that is known.

        True: `from` holds for it. False: it appeared later. None: it was there, but began too long ago for a start that
        is not committed yet; its commit has expired.
        """
        if not self.commits:
            return True
        for birth in self.births:
            if tp.partition < birth.partitions.get(name_hash(tp.topic), 0):
                return True if now - birth.at < BIRTH_SECONDS else None
        return False


def name_hash(topic: str) -> int:
    """A topic's name as births have it: 32 bits."""
    return crc32(topic.encode("utf-8", "surrogatepass"))


def birth_of(partitions: Mapping[str, int], now: float) -> Birth:
    """A group begins at `now` (seconds since the epoch) with so many partitions of each topic."""
    return Birth(int(now), {name_hash(topic): count for topic, count in partitions.items()})


def start_without_commit(log: Log, *, latest: Group | None = None, now: float = 0.0) -> Start:
    """The start of a partition without a commit.

    `latest` is what is known of the group with `from: latest`, which holds for new groups; None: it starts at the
    beginning. `now` is in seconds since the epoch.
    """
    first = Checkpoint(log.low, topic_id=log.topic_id)
    if is_remade(log.topic_id, log.former_id):
        return Start(first, Jump(StartReason.REMADE, None, log.low, log.low, log.high))
    if latest is None:
        return Start(first)
    new = latest.is_new_to(log.tp, now)
    if new:
        return Start(replace(first, offset=log.high))
    return Start(first, Jump(StartReason.EXPIRED, None, log.low, log.low, log.high) if new is None else None)


def start_from(committed: Checkpoint, log: Log, parting: int | None = None) -> Start:
    """The start of a partition with a commit. `parting` is where the log parted from what was committed, if known."""
    offset = committed.offset
    same = replace(committed, topic_id=log.topic_id or committed.topic_id)
    if is_remade(log.topic_id, committed.topic_id):
        fresh = remade(committed, log.tp.topic, log.topic_id, log.low)
        return Start(fresh, Jump(StartReason.REMADE, offset, log.low, log.low, log.high))
    if offset < log.low:
        return Start(replace(same, offset=log.low), Jump(StartReason.REMOVED, offset, log.low, log.low, log.high))
    at = max(log.low, min(offset, log.high, offset if parting is None else parting))
    if at < offset:
        # Without an id no kpipe that knows of ids has committed: it may have been anybody, for any log.
        cause = StartReason.TRUNCATED if committed.topic_id or parting is not None else StartReason.BEYOND
        return Start(cut(same, at), Jump(cause, offset, at, log.low, log.high))
    return Start(same)


def is_remade(topic_id: str, former_id: str) -> bool:
    """Whether two ids of one name are known and differ."""
    return bool(topic_id and former_id and topic_id != former_id)


def remade(former: Checkpoint, topic: str, topic_id: str, low: int, settled: Ranges = ()) -> Checkpoint:
    """The state in a topic made anew: only `settled` is settled there, and the accounting goes on."""
    birth = None if former.birth is None else former.birth.without(name_hash(topic))
    return Checkpoint(low, settled, former.tally, topic_id=topic_id, birth=birth)


def cut(checkpoint: Checkpoint, end: int) -> Checkpoint:
    """What of a checkpoint still holds in a log that has only what it says up to `end`."""
    return replace(
        checkpoint,
        offset=min(checkpoint.offset, end),
        settled=tuple((first, min(last, end)) for first, last in checkpoint.settled if first < end),
        strikes=tuple(strike for strike in checkpoint.strikes if strike[0] < end),
    )
