"""A letter that is sent back: as a record of its handler's redrive topic, and as the event that it is there again.

Rules (DESIGN section 5, step 17):
- Key, value and the event's own headers stay byte for byte; the letter's headers go, save how often it was sent back.
- Where the event stood at first goes along in `kpipe-redrive-` headers, and is what the handler sees.
- A letter is known by its id, by how often it was sent back before, and by its event's time: an event that fails again
  is another letter, and so is one of a topic that was made anew.
"""

from __future__ import annotations

from hashlib import blake2b

from orchestrator.delivery.headers import dead_letters
from orchestrator.event import Letter
from orchestrator.records import Headers, Outgoing, Record

PREFIX = "kpipe-redrive-"
COUNT = dead_letters.PREFIX + "redrive-count"
#: Kafka numbers partitions with 32 bits and a sign.
_PARTITIONS = 1 << 31


def send_back(record: Record, letter: Letter, topic: str, partitions: int) -> Outgoing:
    """The record for the redrive topic `topic` of one handler.

    The key decides the partition, so that letters of one key stay in order; a null key goes to the event's own one.
    """
    said = {
        "id": letter.id,
        "topic": letter.topic,
        "partition": str(letter.partition),
        "offset": str(letter.offset),
        "timestamp": str(time_of(letter)),
    }
    added = tuple((PREFIX + name, text.encode()) for name, text in said.items())
    count = ((COUNT, str(letter.redrive_count + 1).encode()),)
    partition = None if record.key is not None else max(0, letter.partition) % max(1, partitions)
    return Outgoing(topic, record.key, record.value, _own(record.headers) + added + count, partition)


def restore(record: Record) -> Record | None:
    """The event of a redriven record as it stood at its origin; None for a record that tells of none."""
    said = _said(record)
    partition, offset = dead_letters.number(said.get("partition"), -1), dead_letters.number(said.get("offset"), -1)
    if "topic" not in said or not 0 <= partition < _PARTITIONS or offset < 0:
        return None
    return Record(
        topic=said["topic"],
        partition=partition,
        offset=offset,
        timestamp=dead_letters.number(said.get("timestamp"), -1),
        key=record.key,
        value=record.value,
        headers=tuple(h for h in record.headers if not h[0].startswith(PREFIX)),
    )


def read_redriven(record: Record) -> Letter | None:
    """The letter that was sent back as `record`, as far as that still tells of it: its id, its event's place, and how
    often it was sent back by now."""
    event, said = restore(record), _said(record)
    if event is None or "id" not in said:
        return None
    times = _count(record)
    return Letter(said["id"], event.topic, event.partition, event.offset, handler="", reason="", redrive_count=times)


def time_of(letter: Letter) -> int:
    """The timestamp of the letter's event in milliseconds; -1 when it is not known."""
    return dead_letters.number((letter.headers or {}).get("timestamp"), -1)


def key_of_letter(letter: Letter) -> int:
    """96 bits that a letter is known by: of ten million, two share them with a chance below 10^-15."""
    return _key(letter.id, letter.redrive_count, time_of(letter))


def key_of_redriven(record: Record) -> int | None:
    """The same of the letter that was sent back as `record`; None for a record that is no redriven one."""
    said = _said(record)
    if "id" not in said:
        return None
    return _key(said["id"], _count(record) - 1, dead_letters.number(said.get("timestamp"), -1))


def _count(record: Record) -> int:
    count = next((value for name, value in record.headers if name == COUNT), None)
    # One more than a letter may say: this is the count of the letter, plus this time.
    return dead_letters.redrives((count or b"").decode("utf-8", "replace"), dead_letters.MOST_REDRIVES)


def _key(letter_id: str, count: int, timestamp: int) -> int:
    text = f"{letter_id}\0{count}\0{timestamp}"
    return int.from_bytes(blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).digest(), "big")


def _said(record: Record) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in record.headers
        if name.startswith(PREFIX)
    }


def _own(headers: Headers) -> Headers:
    return tuple(h for h in headers if not h[0].startswith((PREFIX, dead_letters.PREFIX)))
