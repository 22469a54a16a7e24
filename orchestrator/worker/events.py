"""What happens to events, told to whoever watches: the log and the status that the supervisor reads.

The loop states facts; how they are worded, counted and shown is decided here.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable

from orchestrator.contracts.headers import as_json as headers_as_json
from orchestrator.delivery.offsets.start import Jump, StartReason
from orchestrator.delivery.outcome import Park
from orchestrator.delivery.pending import Pending
from orchestrator.delivery.strikes import WHOLE, Strikes
from orchestrator.kafka.producer import SendFailure
from orchestrator.observe.meter import Meter
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.produce.kept_records import KeptRecords

log = logging.getLogger("kpipe.worker")

#: A message of a handler's exception can be anything; so much of it is logged.
MOST_CHARS = 2_000
#: The same trouble is told again after so long (seconds).
QUIET_SECONDS = 10.0


#: What each kind of jump means, for a person who can do something about it.
_JUMPS: dict[StartReason, Callable[[Jump], str]] = {
    StartReason.REMADE: lambda jump: (
        f"the topic was deleted and made anew: starting at its beginning, offset {jump.at}"
    ),
    StartReason.REMOVED: lambda jump: (
        f"offset {jump.wanted} does not exist any more: up to {jump.at - (jump.wanted or 0)} event(s) were removed"
        f" unread by retention; going on at {jump.at}"
    ),
    StartReason.TRUNCATED: lambda jump: (
        f"the log lost its end (an unclean leader election?): offsets {jump.at} to {(jump.wanted or 0) - 1} are in"
        f" doubt: what was handled there is not in the log any more; going on at {jump.at}"
    ),
    StartReason.BEYOND: lambda jump: (
        f"the group's offset {jump.wanted} is beyond the log's end {jump.high} and was not committed by this version"
        f" of kpipe (was it reset by another tool?): going on at the end; offsets {jump.at} to"
        f" {(jump.wanted or 0) - 1} are in doubt"
    ),
    StartReason.EXPIRED: lambda jump: (
        f"the group's offset has expired: going on at the first one that exists, {jump.at}"
    ),
}


def where(record: Record) -> str:
    """`topic[partition]@offset`."""
    return f"{record.topic}[{record.partition}]@{record.offset}"


class WorkerEvents:
    """The facts of one worker. `last_error` is the newest trouble in a sentence, None while there was none; `meter`
    has what is only counted.
    """

    def __init__(self, kept: KeptRecords | None = None) -> None:
        """`kept` takes the records of letters that are cut; None: the log does."""
        self._kept = kept or KeptRecords()
        self.last_error: str | None = None
        self._said: dict[str, float] = {}
        self.meter = Meter()

    def parked(self, pending: Pending, park: Park) -> None:
        failed = pending.failed
        what = "" if failed is None else f"{failed.error_type}: {failed.message}"
        if park.stalled:
            self.alarm(f"{where(pending.record)}: a letter cannot be handled, its lane stalls: {what}")
            return
        tried = f"attempt {pending.attempts} failed" if park.spend else "unavailable, waiting"
        self._say(logging.WARNING, f"{where(pending.record)}: {tried}, next in {park.delay:.2f} s: {what}")

    def struck(self, pending: Pending, held: Strikes) -> None:
        """An event's own process died of it, or hung."""
        failed = pending.failed
        what = "" if failed is None else failed.message
        strikes = f"{held.thirds / WHOLE:.3g} strike(s)"
        self._say(logging.WARNING, f"{where(pending.record)}: alone in a process, {strikes}: {what}")

    def suspected(self, tp: TopicPartition, offset: int, hung: bool) -> None:
        """The event was running when a worker died; from now on it runs in a process of its own."""
        how = "hung" if hung else "died"
        place = f"{tp.topic}[{tp.partition}]@{offset}"
        self._say(logging.WARNING, f"{place}: was running when a worker {how}; it runs apart from the others now")

    def died_beside(self, pending: Pending) -> None:
        """A program died with several events; told once for all of them."""
        failed = pending.failed
        what = "" if failed is None else failed.message
        self.trouble(f"{what}; the events that it had begun run alone now, one after the other")

    def gave_up(self, pending: Pending, dlq: str | None) -> None:
        """The event ends in `dlq`, or (None) in the log: then whole, because nothing else keeps it."""
        failed = pending.failed
        what = "" if failed is None else f"{failed.error_type}: {failed.message}"
        told = f"{where(pending.record)}: {pending.buried} after {pending.attempts} attempt(s)"
        if dlq is not None:
            self._say(logging.ERROR, f"{told}, to {dlq}: {what}")
        else:
            self._say(logging.ERROR, f"{told}, skipped (dlq: none): {what}")
            log.error("skipped record: %s", as_json(pending.record))

    def cut(self, pending: Pending, record: Record, dlq: str, failure: SendFailure) -> None:
        """The letter of `record` is too large for `dlq`: it will be cut, so the record is kept elsewhere first."""
        size = sum(len(part or b"") for part in (record.key, record.value, *(value for _, value in record.headers)))
        place = self._kept.keep(record)
        self.alarm(
            f"{where(pending.record)}: its dead letter is too large for {dlq} and is cut ({size} bytes, {failure.code} "
            f"{failure.message}); the whole record is in {place}"
        )

    def left_out(self, pending: Pending, dlq: str) -> None:
        """Not even the shortest letter fits into `dlq`."""
        self.alarm(f"{where(pending.record)}: {dlq} takes not even the shortest letter; the event is skipped")

    def squeezed(self, pending: Pending, failure: SendFailure) -> None:
        what = "dead letter" if pending.buried is not None else "output"
        self.trouble(
            f"{where(pending.record)}: its {what} is too large for its topic ({failure.code}); from now on this worker "
            "compresses with zstd"
        )

    def refused_together(self, failure: SendFailure) -> None:
        self.trouble(f"records that were sent together were refused, their events run alone: {failure.code}")

    def send_failed(self, pending: Pending, failure: SendFailure) -> None:
        what = "dead letter" if pending.buried is not None else "output"
        self.alarm(f"{where(pending.record)}: its {what} was not written: {failure.code} {failure.message}")

    def copied(self, record: Record, event_id: object) -> None:
        """Another event with a taken id and another payload was skipped."""
        self._say(
            logging.WARNING, f"{where(record)}: id {event_id} was taken by an event with another payload; skipped"
        )

    def jumped(self, tp: TopicPartition, jump: Jump) -> None:
        """The partition is not read on where its group had committed."""
        self.meter.offsets_lost += 1
        self.alarm(f"{tp.topic}[{tp.partition}]: {_JUMPS[jump.cause](jump)}")

    def remade(self, topic: str, topic_id: str, waiting: int) -> None:
        """The topic was deleted and made anew while this worker ran."""
        self.meter.offsets_lost += 1
        lost = f"; {waiting} event(s) of the deleted topic were received and not handled" if waiting else ""
        self.alarm(f"{topic} was deleted and made anew (its id is {topic_id} now): starting at its beginning{lost}")

    def recovered(self) -> None:
        """The breaker closed: the flow goes on."""
        log.warning("the breaker is closed again, the flow goes on")
        self.last_error = None

    def trouble(self, message: str) -> None:
        """Something that heals itself, or does not, outside of this worker; the same at most every ten seconds."""
        now = time.monotonic()
        if now - self._said.get(message, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._said = {m: at for m, at in self._said.items() if now - at < QUIET_SECONDS} | {message: now}
            self._say(logging.WARNING, message)

    def alarm(self, message: str) -> None:
        """Something that wants a person."""
        self._say(logging.ERROR, f"ALARM {message}")

    def _say(self, level: int, message: str) -> None:
        self.last_error = message[:500]
        log.log(level, "%s", message[:MOST_CHARS])


def as_json(record: Record) -> str:
    """The whole record on one line; bytes that are not UTF-8 in base64."""
    said: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_bytes("key", record.key),
        **_bytes("value", record.value),
        "headers": headers_as_json(record.headers),
    }
    return json.dumps(said, ensure_ascii=True)


def _bytes(name: str, data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
