"""The dead letter: an event as it was, with headers that say where it came from and why it is here.

Key, value and the event's own headers stay byte for byte. Earlier `kpipe-dlq-` headers are replaced, so that a letter
that fails again does not grow. Header values are UTF-8; each is bounded, and so is their sum (far below the 64 KB by
which a DLQ's record limit exceeds its sources').

A letter that is too large for its DLQ is cut, in steps (`CUTS`), and says so in `kpipe-dlq-truncated`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.delivery.outcome import Failed, Reason
from orchestrator.delivery.pending import EventId
from orchestrator.event import Letter
from orchestrator.records import Headers, Outgoing, Record

PREFIX = "kpipe-dlq-"
#: On a letter that was cut: the sizes of the event's key, value and headers, in bytes, as JSON.
TRUNCATED = PREFIX + "truncated"
VERSION = "1"
_MESSAGE_BYTES = 1_024
_STACK_BYTES = 8_192
_VIOLATIONS_BYTES = 16_384
_SHORT_BYTES = 512
#: More often than so nobody sends a letter back: a header that says so is forged.
MOST_REDRIVES = 1 << 62


@dataclass(frozen=True, slots=True)
class Cut:
    """What a letter keeps of its event: so many bytes of the value, and the event's own headers or not.

    `brief`: of the letter's own headers only those that say whose it is, and no key longer than these.
    """

    value: int
    own_headers: bool = True
    brief: bool = False


#: What is tried one after the other while Kafka finds a letter too large.
CUTS = (Cut(65_536), Cut(4_096), Cut(4_096, own_headers=False), Cut(0, own_headers=False, brief=True))
_STORY = frozenset({"error-message", "stack", "violations", "exit", "event-id"})


@dataclass(frozen=True, slots=True)
class Sender:
    """Who writes the letter: names that are the same for every letter of one worker."""

    group: str
    pipeline: str
    handler: str


@dataclass(frozen=True, slots=True)
class Death:
    """How an event ended. Times are epoch seconds; `exit` is a worker's exit status or signal, "" otherwise."""

    reason: Reason
    failed: Failed
    attempts: int
    first_failed: float
    last_failed: float
    event_id: EventId | None = None
    exit: str = ""


def write_letter(
    record: Record, sender: Sender, death: Death, dlq: str, dlq_partitions: int, cut: Cut | None = None
) -> Outgoing:
    """The record to produce to `dlq` (the cluster's name); `cut` says what has to go.

    A key sends it to its partition; a null key goes to the source partition modulo `dlq_partitions`, so that the
    letters of one null-key lane stay in order.
    """
    own = tuple(h for h in record.headers if not h[0].startswith(PREFIX))
    key, value, added = record.key, record.value, _headers(record, sender, death)
    if cut is not None:
        added = (*(h for h in added if not (cut.brief and h[0].removeprefix(PREFIX) in _STORY)), _truncated(record))
        own = own if cut.own_headers else ()
        value = _part(value, cut.value)
        key = None if cut.brief and key is not None and len(key) > _SHORT_BYTES else key
    partition = None if key is not None else record.partition % max(1, dlq_partitions)
    return Outgoing(dlq, key, value, own + added, partition)


def _truncated(record: Record) -> tuple[str, bytes]:
    """How large the record was, in bytes."""
    headers = sum(len(name.encode("utf-8", "replace")) + len(value or b"") for name, value in record.headers)
    sizes = {"key": len(record.key or b""), "value": len(record.value or b""), "headers": headers}
    return TRUNCATED, json.dumps(sizes).encode()


def _part(value: bytes | None, most: int) -> bytes | None:
    """The beginning of `value`, cut between two characters of UTF-8. A tombstone stays one."""
    if value is None or len(value) <= most:
        return value
    end = next((end for end in range(most, max(-1, most - 4), -1) if value[end] & 0xC0 != 0x80), most)
    return value[:end]


def _headers(record: Record, sender: Sender, death: Death) -> Headers:
    failed = death.failed
    said: list[tuple[str, str, int]] = [
        ("version", VERSION, _SHORT_BYTES),
        ("id", f"{sender.group}/{record.topic}/{record.partition}/{record.offset}", _SHORT_BYTES),
        ("topic", record.topic, _SHORT_BYTES),
        ("partition", str(record.partition), _SHORT_BYTES),
        ("offset", str(record.offset), _SHORT_BYTES),
        ("timestamp", str(record.timestamp), _SHORT_BYTES),
        ("group", sender.group, _SHORT_BYTES),
        ("pipeline", sender.pipeline, _SHORT_BYTES),
        ("handler", sender.handler, _SHORT_BYTES),
        ("reason", death.reason, _SHORT_BYTES),
        ("error-type", failed.error_type, _SHORT_BYTES),
        ("error-message", failed.message, _MESSAGE_BYTES),
        ("stack", failed.stack, _STACK_BYTES),
        ("violations", _violations(failed.violations), _VIOLATIONS_BYTES),
        ("attempts", str(death.attempts), _SHORT_BYTES),
        ("first-failed-at", _iso(death.first_failed), _SHORT_BYTES),
        ("last-failed-at", _iso(death.last_failed), _SHORT_BYTES),
        ("exit", death.exit, _SHORT_BYTES),
        ("event-id", "" if death.event_id is None else str(death.event_id), _SHORT_BYTES),
        ("fingerprint", fingerprint(sender.handler, death.reason, failed), _SHORT_BYTES),
        ("redrive-count", _redrives(record.headers), _SHORT_BYTES),
    ]
    return tuple((PREFIX + name, _clip(text, most)) for name, text, most in said if text)


def fingerprint(handler: str, reason: Reason, failed: Failed) -> str:
    """Twelve hex digits that letters of one cause share: who, why, which error where, which contract paths."""
    paths = sorted({re.sub(r"\[\d+\]", "[]", path) for path, _ in failed.violations})
    cause = json.dumps([handler, reason, failed.error_type, failed.frame, paths])
    return hashlib.sha256(cause.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def read_letter(headers: Headers) -> Letter | None:
    """The letter that these headers tell of; None when they tell of none. Never raises: headers can be anybody's."""
    said = {
        name.removeprefix(PREFIX): (value or b"").decode("utf-8", "replace")
        for name, value in headers
        if name.startswith(PREFIX)
    }
    if "id" not in said or "reason" not in said:
        return None
    return Letter(
        id=said["id"],
        topic=said.get("topic", ""),
        partition=number(said.get("partition"), -1),
        offset=number(said.get("offset"), -1),
        handler=said.get("handler", ""),
        reason=said["reason"],
        error_type=said.get("error-type", ""),
        error_message=said.get("error-message", ""),
        attempts=number(said.get("attempts"), 0),
        violations=_read_violations(said.get("violations", "")),
        fingerprint=said.get("fingerprint", ""),
        redrive_count=redrives(said.get("redrive-count")),
        headers=said,
        truncated=TRUNCATED.removeprefix(PREFIX) in said,
    )


def _violations(violations: Sequence[tuple[str, str]]) -> str:
    """The violated paths as a JSON list; what does not fit is cut off whole, with a last entry that counts it."""
    kept: list[dict[str, str]] = []
    size = 2
    for path, message in violations:
        entry = {"path": path[:512], "message": message[:512]}
        size += len(json.dumps(entry)) + 2
        if size > _VIOLATIONS_BYTES - 200:
            kept.append({"path": "$", "message": f"and {len(violations) - len(kept)} more"})
            break
        kept.append(entry)
    return json.dumps(kept) if kept else ""


def _read_violations(text: str) -> tuple[dict[str, str], ...]:
    try:
        found = json.loads(text) if text else []
        return tuple({"path": _plain(v["path"]), "message": _plain(v["message"])} for v in found)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def _plain(said: object) -> str:
    """As text that can be written: JSON may have surrogates."""
    return str(said).encode("utf-8", "backslashreplace").decode()


def _redrives(headers: Headers) -> str:
    for name, value in headers:
        if name == PREFIX + "redrive-count" and value is not None:
            return str(redrives(value.decode("utf-8", "replace")))
    return "0"


def number(text: str | None, otherwise: int) -> int:
    """The whole number of 64 bits, as Kafka's offsets and times are, that a header says."""
    if text is None or not re.fullmatch(r"-?[0-9]{1,19}", text):
        return otherwise
    return int(text) if -(1 << 63) <= int(text) < 1 << 63 else otherwise


def redrives(text: str | None, most: int = MOST_REDRIVES - 1) -> int:
    """How often a letter was sent back, by its header; 0 for a count below 0 or above `most`."""
    count = number(text, 0)
    return count if 0 <= count <= most else 0


def _clip(text: str, most: int) -> bytes:
    """At most `most` bytes of UTF-8, cut between characters; what UTF-8 cannot say is escaped."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= most:
        return data
    return data[: most - 3].decode("utf-8", "ignore").encode() + b"..."


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
