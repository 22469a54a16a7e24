"""How `tail` and `send` show a record: for people, as JSON (docs/json.md), or by kcat's letters.

What is for people never holds a control character of a record. `--format` writes a record's bytes untouched where
stdout is a file or a pipe, and escaped where it is a terminal.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import orjson

from orchestrator.cli.render import output
from orchestrator.cli.render.output import paint, safe
from orchestrator.contracts.headers import as_json as headers_as_json
from orchestrator.errors import UsageError
from orchestrator.operations.records.exact_json import compact

if TYPE_CHECKING:
    from orchestrator.event import Letter
    from orchestrator.records import Headers, Record

#: How much of a value a terminal gets (characters); pipes and files get all of it.
_CLIP = 4_000
LETTERS: dict[str, Callable[[Record, str], bytes]] = {
    "t": lambda record, topic: topic.encode(),
    "p": lambda record, topic: b"%d" % record.partition,
    "o": lambda record, topic: b"%d" % record.offset,
    "k": lambda record, topic: record.key or b"",
    "v": lambda record, topic: record.value or b"",
    "s": lambda record, topic: record.value or b"",
    "K": lambda record, topic: b"%d" % _length(record.key),
    "S": lambda record, topic: b"%d" % _length(record.value),
    "R": lambda record, topic: _length(record.value).to_bytes(4, "big", signed=True),
    "h": lambda record, topic: b",".join(
        name.encode("utf-8", "surrogateescape") + b"=" + (b"NULL" if value is None else value)
        for name, value in record.headers
    ),
    "T": lambda record, topic: b"%d" % record.timestamp,
}
_Part: TypeAlias = bytes | Callable[["Record", str], bytes]
_ESCAPES: dict[str, _Part] = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\", "c": b""}
_TOKEN = re.compile(r"%(.?)|\\x([0-9a-fA-F]{2})|\\(.?)|([^%\\]+)", re.DOTALL)


def as_json(record: Record, topic: str) -> str:
    """One line of JSON. The value is the record's own text, so that no number loses a digit.

    The document `null` comes with its bytes too, so that it is no tombstone.
    """
    value = None if record.value is None else compact(record.value)
    timestamp = "null" if record.timestamp < 0 else record.timestamp
    place = f'"partition":{record.partition},"offset":{record.offset},"timestamp":{timestamp}'
    key = ",".join([f'"{name}":{_json(said)}' for name, said in _text_field("key", record.key).items()])
    plain = record.value is None or value not in (None, "null")
    encoded = "" if plain else f',"value_base64":"{_base64(record.value or b"")}"'
    headers = _json(headers_as_json(record.headers)) if record.headers else "[]"
    return f'{{"topic":{_json(topic)},{place},{key},"value":{value or "null"}{encoded},"headers":{headers}}}'


def for_people(record: Record, topic: str, *, show_topic: bool = False) -> str:
    """Time, place, key and value on one line; for a dead letter, why it is one on the lines below."""
    from orchestrator.delivery.headers.dead_letters import read_letter

    place = f"{record.partition}@{record.offset}"
    parts = [
        paint(time_of(record.timestamp), "dim"),
        paint(f"{topic}[{record.partition}]@{record.offset}" if show_topic else place, "cyan"),
        paint("null", "dim") if record.key is None else paint(safe(_text(record.key)), "green"),
        _value(record.value),
    ]
    letter = read_letter(record.headers)
    return "\n".join(["  ".join(parts), *(_reasons(letter) if letter else ())])


def receipt(record: Record, topic: str) -> str:
    """Where a record that was sent is: `orders.created[1]@42 key=8f2c`."""
    key = paint("null", "dim") if record.key is None else safe(_text(record.key))
    return f"{paint(f'{topic}[{record.partition}]@{record.offset}', 'cyan')} key={key}"


def by_format(template: str, *, escaped: bool) -> Callable[[Record, str], bytes]:
    """A function from a record (and its topic's name) to bytes. Raises UsageError for an unknown letter.

    `escaped` is for terminals. A line feed is added, unless the template ends in an escape of its own (`\\n`,
    `\\0`, or `\\c` for nothing).
    """
    parts = [_part(found) for found in _TOKEN.finditer(template)]
    if not re.search(r"(?<!\\)(\\\\)*\\(x[0-9a-fA-F]{2}|[ntr0c])$", template):
        parts.append(b"\n")

    if not escaped and len(parts) == 2 and callable(parts[0]) and parts[1] == b"\n":
        only = parts[0]  # such as `%v`: millions may come
        return lambda record, topic: only(record, topic) + b"\n"

    def render(record: Record, topic: str) -> bytes:
        done = []
        for part in parts:
            raw = part if isinstance(part, bytes) else part(record, topic)
            done.append(safe(_text(raw)).encode() if escaped and not isinstance(part, bytes) else raw)
        return b"".join(done)

    return render


def _part(found: re.Match[str]) -> _Part:
    letter, byte, escape, literal = found.groups()
    if literal is not None:
        return str(literal).encode("utf-8", "surrogateescape")
    if byte is not None:
        return bytes.fromhex(byte)
    if escape is not None:
        return _known(_ESCAPES, escape, f"\\{escape}")
    return b"%" if letter == "%" else _known(LETTERS, letter, f"%{letter}")


def _known(table: Mapping[str, _Part], name: str, shown: str) -> _Part:
    if name not in table:
        raise UsageError(
            f"--format: there is no {safe(shown)}",
            "there are %t topic, %p partition, %o offset, %k key, %v or %s value, %h headers, %T timestamp, "
            r"%K %S bytes of key and value, %R those of the value in binary, %%; \n \t \r \0 \xHH \\ \c",
        )
    return table[name]


def _length(raw: bytes | None) -> int:
    """Bytes; -1 for null, as in kcat."""
    return -1 if raw is None else len(raw)


def time_of(timestamp: int) -> str:
    """Milliseconds as a local time, to the millisecond."""
    if timestamp < 0:
        return "-"
    try:
        moment = datetime.fromtimestamp(timestamp / 1000)
    except (OverflowError, ValueError, OSError):  # a producer may send any number
        return str(timestamp)
    return moment.isoformat(" ", "milliseconds")


def _value(raw: bytes | None) -> str:
    if raw is None:
        return paint("(tombstone)", "dim")
    text = compact(raw)
    if text is not None:
        return _clipped(safe(text))
    return f"{paint(f'(not JSON, {len(raw)} bytes)', 'yellow')} {_clipped(safe(_text(raw)))}".rstrip()


def _clipped(text: str) -> str:
    if len(text) <= _CLIP or not output.is_terminal():
        return text
    return f"{text[:_CLIP]}{paint(f'… and {len(text) - _CLIP} more characters', 'dim')}"


def _reasons(letter: Letter) -> list[str]:
    origin = f"from {safe(letter.topic)}[{letter.partition}]@{letter.offset}"
    by = f" by {safe(letter.handler)}" if letter.handler else ""
    attempts = f", {letter.attempts} attempt{'s' if letter.attempts != 1 else ''}" if letter.attempts else ""
    lines = [f"    {paint(safe(letter.reason), 'red')} {origin}{by}{attempts}"]
    if not letter.violations and (letter.error_type or letter.error_message):
        said = ": ".join(safe(part) for part in (letter.error_type, letter.error_message) if part)
        lines.append(f"    {said}")
    lines += [f"    {safe(v['path'])}: {safe(v['message'])}" for v in letter.violations]
    return lines


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _text_field(name: str, raw: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {name: None, f"{name}_base64": _base64(raw or b"")}


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()


def headers_of(words: tuple[str, ...]) -> Headers:
    """`-H name:value` options as headers, in order. Raises UsageError."""
    headers = []
    for word in words:
        name, colon, value = word.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"-H {word}: no name", "write -H name:value")
        headers.append((name.strip(), value.strip().encode("utf-8", "surrogateescape")))
    return tuple(headers)
