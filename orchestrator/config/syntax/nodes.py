"""The document as it was written: text with positions, before anything knows what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

#: A place in the document: keys of mappings and indexes of lists, from the top.
Path: TypeAlias = tuple[str | int, ...]


#: Characters of a text that count as one more value.
_TEXT = 100


class Mark(NamedTuple):
    """A position in a file; `line` and `column` count from 1, 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value that is no collection.

    `plain` scalars (no quotes) may be numbers, booleans or null. `interpolated` ones are what their place needs.
    `source` is the text as written when `text` holds something from the environment or a file: only `source` may
    ever be shown.
    """

    mark: Mark
    text: str
    plain: bool = True
    interpolated: bool = False
    source: str | None = None

    depth = 1

    @property
    def size(self) -> int:
        """A long text counts as several values: an alias makes as much work as what it stands for."""
        return 1 + len(self.text) // _TEXT


class Entry(NamedTuple):
    """One key of a mapping: where the key stands, and its value."""

    key: Mark
    value: Node


@dataclass(frozen=True, slots=True)
class ListNode:
    """A YAML sequence. `size` counts its nodes with every alias expanded, `depth` its levels."""

    mark: Mark
    items: tuple[Node, ...]
    size: int = field(init=False, compare=False)
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 1 + sum(item.size for item in self.items))
        object.__setattr__(self, "depth", 1 + max((item.depth for item in self.items), default=0))


@dataclass(frozen=True, slots=True)
class MapNode:
    """A YAML mapping in the file's order; keys are always text. `size` and `depth` as in `ListNode`."""

    mark: Mark
    entries: Mapping[str, Entry]
    size: int = field(init=False, compare=False)
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        values = [entry.value for entry in self.entries.values()]
        object.__setattr__(self, "size", 1 + sum(value.size for value in values))
        object.__setattr__(self, "depth", 1 + max((value.depth for value in values), default=0))


Node: TypeAlias = Scalar | ListNode | MapNode


def child(node: Node, step: str | int) -> Node | None:
    """The node one step down, or None where the document has none."""
    if isinstance(node, MapNode) and isinstance(step, str):
        entry = node.entries.get(step)
        return None if entry is None else entry.value
    if isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def scalars(node: Node) -> Iterator[Scalar]:
    """Every scalar value below `node`, aliases expanded."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, ListNode):
        for item in node.items:
            yield from scalars(item)
    else:
        for entry in node.entries.values():
            yield from scalars(entry.value)
