"""What `kpipe dlq` prints: one letter whole, letters by cause, what goes back where, and what would be lost."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render import output
from orchestrator.cli.render import record as formats
from orchestrator.cli.render.output import paint, safe
from orchestrator.cli.render.scan_progress import LetterProgress
from orchestrator.delivery.headers.dead_letters import PREFIX, number
from orchestrator.errors import UsageError
from orchestrator.operations.dead_letters.redrive import RedriveWatcher, counted
from orchestrator.operations.records import exact_json

if TYPE_CHECKING:
    from orchestrator.event import Letter
    from orchestrator.operations.dead_letters.drop import Loss
    from orchestrator.operations.dead_letters.grouping import Cause
    from orchestrator.operations.dead_letters.listing import CauseList
    from orchestrator.operations.dead_letters.redrive import Redriven
    from orchestrator.records import GroupUse, Record

#: Further headers of a letter by their field in JSON.
_MORE = ("group", "pipeline", "stack", "exit", "event-id", "first-failed-at", "last-failed-at")
#: Characters of a message that the table of causes shows.
_MESSAGE = 100


def as_json(record: Record, letter: Letter, dlq: str) -> str:
    """The record as `tail --json` prints it, with `letter` added (docs/json.md)."""
    said = letter.headers or {}
    timestamp = number(said.get("timestamp"), -1)
    fields = {
        "id": letter.id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": None if timestamp < 0 else timestamp,
        "handler": letter.handler,
        "reason": letter.reason,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "violations": list(letter.violations),
        "attempts": letter.attempts,
        "fingerprint": letter.fingerprint,
        "redrive_count": letter.redrive_count,
        "truncated": truncated(letter),
        **{name.replace("-", "_"): said.get(name, "") for name in _MORE},
    }
    return f'{formats.as_json(record, dlq)[:-1]},"letter":{output.dumps(fields)}}}'


def truncated(letter: Letter) -> dict[str, int] | None:
    """The sizes in bytes that key, value and headers of the event had, of a letter that was cut; None of any other."""
    if not letter.truncated:
        return None
    try:
        sizes = json.loads((letter.headers or {}).get("truncated", ""))
        return {name: int(sizes[name]) for name in ("key", "value", "headers")}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}  # somebody else's header


def _cut(record: Record, letter: Letter) -> str:
    sizes = truncated(letter)
    if sizes is None:
        return ""
    had = ", ".join(f"{name} of {size:,} bytes" for name, size in sizes.items() if size)
    kept = f"{len(record.value or b''):,} bytes of the value are here"
    return f"{kept}; the event had a {had}; the log of {letter.handler} says where it is whole"


def for_people(record: Record, letter: Letter, dlq: str) -> Iterator[str]:
    """Lines: where it is, why it is there, its own headers, its value and the stack."""
    yield paint(f"{dlq}[{record.partition}]@{record.offset}", "bold")
    rows = [(name, text) for name, text in _rows(record, letter) if text]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {paint(f'{name:<{width}}', 'dim')}  {safe(text)}"
    yield from ("", *_value(record.value))
    stack = (letter.headers or {}).get("stack", "")
    if stack:
        yield from ("", safe(stack.rstrip(), lines=True))


def _rows(record: Record, letter: Letter) -> Iterator[tuple[str, str]]:
    said = letter.headers or {}
    attempts = f", {letter.attempts} attempt{'' if letter.attempts == 1 else 's'}" if letter.attempts else ""
    yield "reason", f"{letter.reason} by {letter.handler}{attempts}"
    yield "error", ": ".join(part for part in (letter.error_type, letter.error_message) if part)
    for violation in letter.violations:
        yield "violation", f"{violation['path']}: {violation['message']}"
    yield "exit", said.get("exit", "")
    yield "from", f"{letter.topic}[{letter.partition}]@{letter.offset}"
    yield "event time", formats.time_of(number(said.get("timestamp"), -1))
    yield "event id", said.get("event-id", "")
    yield "first failed", said.get("first-failed-at", "")
    yield "last failed", said.get("last-failed-at", "")
    yield "written", formats.time_of(record.timestamp)
    yield "id", letter.id
    yield "fingerprint", letter.fingerprint
    yield "cut", _cut(record, letter)
    yield "redriven", f"{letter.redrive_count} time{'' if letter.redrive_count == 1 else 's'} before"
    yield "key", "null" if record.key is None else record.key.decode("utf-8", "backslashreplace")
    for name, value in record.headers:
        if not name.startswith(PREFIX):
            yield "header", f"{name}: {'null' if value is None else value.decode('utf-8', 'backslashreplace')}"


def _value(raw: bytes | None) -> Iterator[str]:
    if raw is None:
        yield paint("(tombstone)", "dim")
        return
    text = exact_json.compact(raw)
    if text is None:
        yield paint(f"(not JSON, {len(raw)} bytes)", "yellow")
        yield safe(raw.decode("utf-8", "backslashreplace"), lines=True)
    else:
        yield safe(exact_json.indented(text), lines=True)


# -- ls ---------------------------------------------------------------------------------------------------------------


def show_causes(listing: CauseList) -> None:
    """A table of the causes, and what it leaves out."""
    if not listing.letters:
        output.data("No dead letters.")
        return
    output.table(
        ("DLQ", "FINGERPRINT", "COUNT", "REDRIVEN", "FIRST", "LAST", "HANDLER", "REASON", "MESSAGE"),
        [_cause_row(cause) for cause in listing.causes],
    )
    if cut := sum(cause.truncated for cause in listing.causes):
        output.say(f"{cut:,} of them were too large for their DLQ and are cut; `kpipe dlq show` says to what")
    if listing.ungrouped:
        output.say(f"and {listing.ungrouped:,} letters of other causes; --where narrows them down")
    output.say("next: `kpipe dlq show FINGERPRINT` · `kpipe dlq redrive`")


def causes_json(listing: CauseList) -> dict[str, Any]:
    """The shape of docs/json.md."""
    groups = [cause.as_json() for cause in listing.causes]
    return {"letters": listing.letters, "groups": groups, "ungrouped": listing.ungrouped, "foreign": listing.foreign}


def _cause_row(cause: Cause) -> tuple[object, ...]:
    sample, message = cause.sample, cause.message
    clipped = message if len(message) <= _MESSAGE else message[:_MESSAGE] + "…"
    first, last = (formats.time_of(moment).partition(".")[0] for moment in (cause.first, cause.last))
    return (
        cause.dlq,
        sample.fingerprint,
        cause.count,
        cause.redriven,
        first,
        last,
        sample.handler,
        sample.reason,
        clipped,
    )


# -- redrive ----------------------------------------------------------------------------------------------------------


def show_redrive(plan: Redriven) -> None:
    """What goes back where, and what stays."""
    if plan.letters:
        rows = [(handler, topic, f"{count:,}") for (handler, topic), count in plan.deliveries.items()]
        output.table(("HANDLER", "TOPIC", "LETTERS"), rows)
    else:
        output.data("Nothing to send back.")
    if plan.before:
        output.say(f"{counted(plan.before)} sent back before: not again")
    if plan.guarded:
        output.say(f"{counted(plan.guarded)} sent back too often: --max-redrives lets them go once more")
    for why, count in plan.left_alone:
        output.say(f"{counted(count)} {safe(why)}: left alone")


def show_redriven(result: Redriven) -> None:
    """What was sent back to whom."""
    by_handler: Counter[str] = Counter()
    for (handler, _), count in result.deliveries.items():
        by_handler[handler] += count
    each = ", ".join(f"{count:,} to {handler}" for handler, count in sorted(by_handler.items()))
    output.say(f"Sent back {counted(result.sent or 0)}{f': {each}' if each else ''}.")
    output.say("next: `kpipe lag` shows how far they are handled")


def redrive_json(redriven: Redriven) -> dict[str, Any]:
    """The shape of docs/json.md."""
    return {
        "letters": redriven.letters,
        "deliveries": [
            {"handler": handler, "topic": topic, "letters": count}
            for (handler, topic), count in redriven.deliveries.items()
        ],
        "redriven": redriven.sent,
        "before": redriven.before,
        "guarded": redriven.guarded,
        "left_alone": [{"why": why, "letters": count} for why, count in redriven.left_alone],
        "foreign": redriven.foreign,
    }


def ask_redrive(letters: int) -> bool:
    """Ask on the terminal. Raises UsageError where there is none: silence must not stand for an answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "there is no terminal to ask on, so nothing was sent back",
            "add -y to send these letters back, or --dry-run to only see the plan",
        )
    output.say(f"Send {counted(letters)} back? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


class RedriveProgress(RedriveWatcher):
    """How far it is, on a terminal, and the notes."""

    def __init__(self) -> None:
        self._letters = LetterProgress()

    def read(self, letters: int) -> None:
        self._letters(letters)

    def sent(self, letters: int) -> None:
        output.in_place(f"sent back {letters:,} letters")

    def note(self, text: str) -> None:
        output.say(safe(text))


# -- drop -------------------------------------------------------------------------------------------------------------


def show_loss(loss: Loss, groups: Iterable[GroupUse]) -> None:
    """What would be lost, and which groups have not read it."""
    if not loss.records:
        output.data(f"{loss.topic.name} is empty.")
        return
    records = f"{loss.records:,} record{'' if loss.records == 1 else 's'}"
    times = (loss.first, loss.last)
    since = "" if None in times else ", " + " to ".join(formats.time_of(time) for time in times if time is not None)
    output.data(f"{loss.topic.name}: {records}{since}")
    if loss.waiting:
        output.say(f"{loss.waiting:,} of them were never sent back (`kpipe dlq redrive`)")
    for group in groups:
        output.say(f"the consumer group {safe(group.group)} has not read {group.lag:,} of them")


def loss_json(loss: Loss, deleted: int | None) -> dict[str, Any]:
    """The shape of docs/json.md."""
    return {
        "dlq": loss.topic.name,
        "records": loss.records,
        "waiting": loss.waiting,
        "first": loss.first,
        "last": loss.last,
        "deleted": deleted,
    }


def ask_drop(name: str) -> bool:
    """Whether the name was typed. Raises UsageError where there is no terminal to type it on."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "there is no terminal to ask on, so nothing was deleted", f"--yes-drop {name} deletes without asking"
        )
    output.say(f"Type {name} to delete them all:")
    return sys.stdin.readline().strip() == name
