"""Text from outside of the pipeline file, which no message may show.

A value of `${NAME}` or `${file:path}` may be a secret. It carries along how the file says it, and messages show that.
A literal value that happens to be equal is shown as it is: where a text comes from decides, not what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

#: Where a message may quote a part of a value: one of several addresses, a host without its port, a path of a URL.
_PIECES = re.compile(r"\w+://|[\s,;:/@]+")
#: Shorter pieces, and numbers, are everywhere: to mask them would hide the message itself.
_SHORTEST_PIECE = 3

Origin = tuple[Sequence[str | int], str]


class Outside(str):
    """`written` is how the pipeline file says it, such as `${KAFKA_PASSWORD}`."""

    written: str

    def __new__(cls, text: str, written: str) -> Outside:
        made = super().__new__(cls, text)
        made.written = written
        return made

    def __reduce__(self) -> tuple[type[Outside], tuple[str, str]]:
        return Outside, (str(self), self.written)


def shown(text: str) -> str:
    """`text` as a message may have it."""
    return text.written if isinstance(text, Outside) else text


def masked(message: str, values: Iterable[Any]) -> str:
    """What another program or library said, without those of `values` that are from outside, and their pieces."""
    hidden: dict[str, str] = {}
    for value in values:
        if isinstance(value, Outside):
            hidden.update(dict.fromkeys(_pieces(value), value.written))
    if not hidden:
        return message
    words = "|".join(re.escape(word) for word in sorted(hidden, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{words})(?!\w)", lambda match: hidden[match[0]], message)


def _pieces(value: str) -> Iterator[str]:
    for piece in _PIECES.split(value):
        if len(piece) >= _SHORTEST_PIECE and not piece.isdigit():
            yield piece
    for whole in (str(value), value.strip(), *re.split(r"[\s,;]+", value)):
        if whole:
            yield whole


def origins_of(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[Origin]:
    """Every text from outside in a tree: its place, and how it is written. JSON itself would forget that."""
    if isinstance(tree, Outside):
        yield path, tree.written
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from origins_of(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from origins_of(value, (*path, index))


def set_origins(tree: Any, origins: Iterable[Origin]) -> None:
    """Make the texts at these places of `tree`, as far as they are there, texts from outside."""
    for path, written in origins:
        *steps, last = path
        holder = tree
        for step in steps:
            holder = _below(holder, step)
        value = _below(holder, last)
        if isinstance(value, str):
            holder[last] = Outside(value, written)


def _below(holder: Any, step: str | int) -> Any:
    if isinstance(holder, dict):
        return holder.get(step)
    return holder[step] if isinstance(holder, list) and isinstance(step, int) and step < len(holder) else None
