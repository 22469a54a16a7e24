"""The headers of an event: as an author gives them, and as JSON shows them (docs/headers.md).

One check for a handler's `Emit`, for `Publisher` and the publish endpoint, and for `kpipe send`. Names are any bytes
but NUL: those that are not UTF-8 are surrogate escapes, as in `Event.headers`, so a handler can pass them on.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping

from orchestrator.records import Headers

#: Names that begin so are kpipe's: they say what an author cannot know, or may not decide.
RESERVED = "kpipe-"

#: As JSON has a name or a value: text, or `{"base64": …}` for what is not UTF-8.
Text = str | dict[str, str]


class WrongHeader(ValueError):
    """What is wrong with a header, in a sentence."""


def given(headers: object) -> Headers:
    """The headers that an author gives, a mapping or pairs, as names and bytes. Raises WrongHeader.

    Those under kpipe's names are left out, so that an event's headers can be passed on as they are.
    """
    return tuple((name, value) for name, value in map(_pair, _listed(headers)) if not name.startswith(RESERVED))


def check_name(name: object) -> str:
    """`name`, if a header can have it. Raises WrongHeader."""
    if not isinstance(name, str):
        raise WrongHeader(f"the header name {name!r:.100} is a {type(name).__name__}; expected a string")
    if "\0" in name:
        raise WrongHeader(f"the header name {name!r:.100} has a NUL, where many clients end it")
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise WrongHeader(f"the header name {name!r:.100} is not valid Unicode") from None
    return name


def as_json(headers: Headers) -> list[list[Text | None]]:
    """Pairs of name and value."""
    return [[name_as_json(name), value_as_json(value)] for name, value in headers]


def name_as_json(name: str) -> Text:
    return name if name.isascii() else _text(name.encode("utf-8", "surrogateescape"))


def value_as_json(value: bytes | None) -> Text | None:
    return None if value is None else _text(value)


def _listed(headers: object) -> Iterable[object]:
    if headers is None:
        return ()
    if isinstance(headers, Mapping):
        return headers.items()
    if isinstance(headers, list | tuple):
        return headers
    raise WrongHeader(f"the headers are a {type(headers).__name__}; expected a mapping or a list of pairs")


def _pair(header: object) -> tuple[str, bytes | None]:
    if not (isinstance(header, list | tuple) and len(header) == 2):
        raise WrongHeader(f"the header {header!r:.100} is no pair of name and value")
    name, value = check_name(header[0]), header[1]
    if value is None or isinstance(value, bytes):
        return name, value
    if not isinstance(value, str):
        raise WrongHeader(f"the header {name!r:.100} is a {type(value).__name__}; expected a string, bytes or None")
    try:
        return name, value.encode()
    except UnicodeEncodeError:
        raise WrongHeader(f"the value of the header {name!r:.100} is not valid Unicode") from None


def _text(raw: bytes) -> Text:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}
