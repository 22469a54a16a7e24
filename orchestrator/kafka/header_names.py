"""Header names that are not UTF-8, read and written as surrogate escapes (PEP 383).

Kafka takes any bytes as the name of a header. confluent-kafka 2.16 takes UTF-8 only, and looks for no error:
- `Message.headers` frees what it read, and returns null pointers with an exception set. CPython 3.11 specialises the
  call after eight runs, does not look at the exception any more, and raises it somewhere later, outside any `try`.
- `Producer.produce` follows a null pointer, which ends the process. A name is cut at a NUL, in both directions.

Both of them use CPython's UTF-8 codec. Where that meets an error, it looks up the handler "strict" in the registry of
`codecs`. So while one of them is called, "strict" is "surrogateescape" for the calling thread, and what it was for all
others. Names that are plain UTF-8 never come to the handler.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from threading import get_ident
from typing import Any

from confluent_kafka import Message

from orchestrator.records import Headers

#: In place of headers that could not be read at all: another CPython may treat its codecs in another way.
UNREADABLE: Headers = (("kpipe-unreadable-headers", b"a header's name is not UTF-8"),)

_STRICT = codecs.lookup_error("strict")
_ESCAPE = codecs.lookup_error("surrogateescape")
_NAME: Any = itemgetter(0)
#: The registry is one for all threads: so that none puts "strict" back while another one is reading.
_lock = threading.Lock()
_thread = 0


def headers_of(messages: Sequence[Message]) -> list[Headers]:
    """The headers of each message. To be called once for a message: see above.

    By `map`, which looks whether a call that returned something raised as well.
    """
    found: list[Any] = []
    each = map(Message.headers, messages)
    while len(found) < len(messages):
        try:
            _escaping(found.extend, each)
        except (SystemError, UnicodeDecodeError):
            found.append(UNREADABLE)
    return [tuple(headers) if headers else () for headers in found]


def are_plain(headers: Headers) -> bool:
    """Whether `Producer.produce` can be given these as they are."""
    for name, _ in headers:  # on the path of many events: `all` takes twice as long
        if not name.isascii():
            return all(map(_is_utf8, map(_NAME, headers)))
    return True


def writing(produce: Callable[..., None], headers: Headers) -> Callable[..., None]:
    """`produce` for a record with these headers. Raises ValueError for names that stand for no bytes."""
    if are_plain(headers):
        return produce
    for name, _ in headers:
        name.encode("utf-8", "surrogateescape")
    return partial(_escaping, partial(_produce, produce))


def _produce(produce: Callable[..., None], *arguments: Any, **named: Any) -> None:
    if "\udcff".encode() != b"\xff":  # `produce` would follow a null pointer
        raise ValueError("this Python cannot write a header's name that is not UTF-8")
    produce(*arguments, **named)


def _escaping(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    global _thread
    with _lock:
        try:
            _thread = get_ident()
            codecs.register_error("strict", _handle)
            call(*arguments, **named)
        finally:
            codecs.register_error("strict", _STRICT)
            _thread = 0


def _handle(error: UnicodeError) -> tuple[str | bytes, int]:
    return (_ESCAPE if get_ident() == _thread else _STRICT)(error)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
