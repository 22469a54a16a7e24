"""Several files as one document: mappings merge key by key, everything else replaces.

An empty value (null) in a later file removes what the earlier ones said there, so that its default holds again.
Where they said nothing it is kept, as the empty value it would be in the first file.
"""

from __future__ import annotations

from orchestrator.config.syntax.nodes import Entry, MapNode, Node, Scalar

NULLS = frozenset(("", "~", "null", "Null", "NULL"))


def merge(below: MapNode, above: MapNode) -> MapNode:
    """`above` laid over `below`. Keys keep the order in which they first appear; marks are the last writer's."""
    entries = dict(below.entries)
    for key, entry in above.entries.items():
        if key not in entries:
            entries[key] = entry
        elif is_null(entry.value):
            del entries[key]
        else:
            entries[key] = Entry(entry.key, _over(entries[key].value, entry.value))
    return MapNode(below.mark, entries)


def _over(below: Node, above: Node) -> Node:
    if isinstance(below, MapNode) and isinstance(above, MapNode):
        return merge(below, above)
    return above


def is_null(node: Node) -> bool:
    """Whether the file says nothing here: an empty plain scalar, `~` or `null`."""
    return isinstance(node, Scalar) and node.plain and node.text in NULLS
