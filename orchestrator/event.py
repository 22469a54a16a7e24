"""What a handler's author sees: the event that comes in, what goes out, and the ways to say no.

    from orchestrator import Emit, Event, Reject

    def handle(event: Event) -> Emit:
        ...

Raising anything else than the three classes below is a `Retry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.records import EmitHeaders, Headers, Record


@dataclass(frozen=True, slots=True)
class Letter:
    """Why an event is in a DLQ, read from its `kpipe-dlq-` headers (docs/dead-letters.md).

    Times are ISO 8601 strings; `violations` are `{"path": …, "message": …}` objects. `truncated`: the letter was too
    large for its DLQ, and has only the beginning of its event's value, or nothing of it.
    """

    id: str
    topic: str
    partition: int
    offset: int
    handler: str
    reason: str
    error_type: str = ""
    error_message: str = ""
    attempts: int = 0
    violations: tuple[Mapping[str, str], ...] = ()
    fingerprint: str = ""
    redrive_count: int = 0
    headers: Mapping[str, str] | None = None
    truncated: bool = False


class Event:
    """One event as a handler sees it.

    `value` is the decoded JSON (None for a tombstone, or for a letter that is not JSON); `id` is what copies of it
    share, the value's `dedup.by` field (a letter's own id; None without such a field); `attempt` counts from 1;
    `deadline` is the epoch second by which the handler has to answer (None when its timeout is `unlimited`);
    `letter` is set when the event comes from a DLQ.
    """

    __slots__ = ("_record", "attempt", "deadline", "id", "letter", "topic", "value")

    def __init__(
        self,
        record: Record,
        value: Any,
        topic: str | None = None,
        id: str | None = None,
        attempt: int = 1,
        deadline: float | None = None,
        *,
        letter: Letter | None = None,
    ) -> None:
        self._record = record
        self.value = value
        self.topic = record.topic if topic is None else topic
        self.id = id
        self.attempt = attempt
        self.deadline = deadline
        self.letter = letter

    @property
    def raw(self) -> bytes | None:
        """The value as it stands in Kafka."""
        return self._record.value

    @property
    def key(self) -> str | None:
        """The key as text; bytes that are not UTF-8 become surrogate escapes (`raw_key` has them as they are)."""
        key = self._record.key
        return None if key is None else key.decode("utf-8", "surrogateescape")

    @property
    def raw_key(self) -> bytes | None:
        return self._record.key

    @property
    def partition(self) -> int:
        return self._record.partition

    @property
    def offset(self) -> int:
        return self._record.offset

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch."""
        return self._record.timestamp

    @property
    def headers(self) -> Headers:
        return self._record.headers

    def __repr__(self) -> str:
        return f"Event({self.topic}[{self.partition}]@{self.offset} key={self.key!r} attempt={self.attempt})"


class Emit:
    """One event to publish: `topic` as the pipeline file names it, `value` anything JSON can say.

    The key is the value's field that the topic's `key` names unless `key` is given; `value=None` is a tombstone
    and needs `key`. `headers` are UTF-8 strings or bytes by name; a sequence of pairs where a name occurs twice.
    """

    __slots__ = ("headers", "key", "topic", "value")

    def __init__(
        self,
        topic: str,
        value: Any,
        key: str | bytes | None = None,
        headers: EmitHeaders | None = None,
    ) -> None:
        self.topic = topic
        self.value = value
        self.key = key
        self.headers = headers

    def __repr__(self) -> str:
        return f"Emit({self.topic!r}, {self.value!r}, key={self.key!r})"


class Reject(Exception):
    """This event can never be handled: dead-letter it at once."""


class Retry(Exception):
    """This event could not be handled now: try again, up to the handler's attempts. `after` is in seconds."""

    def __init__(self, why: object = "", after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Unavailable(Exception):
    """Something the handler depends on is away: wait for it, and blame no event. `after` is in seconds."""

    def __init__(self, why: object = "", after: float | None = None) -> None:
        super().__init__(why)
        self.after = after
