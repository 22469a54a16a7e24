"""Bounds on what a schema may cost. They count steps, not seconds: the same schema has the same outcome everywhere."""

from __future__ import annotations

from typing import Any

#: Characters of a text that count as one more value.
_TEXT = 100


class TooMuch(ValueError):
    """A budget is used up; the message says what of."""


class Budget:
    """`most` steps, and what to say when they are used up."""

    def __init__(self, most: int, refusal: str) -> None:
        self.spent = 0
        self._most = most
        self._refusal = refusal

    def spend(self, steps: int = 1) -> None:
        """Raises `TooMuch` once more than `most` steps are spent."""
        self.spent += steps
        if self.spent > self._most:
            raise TooMuch(self._refusal)


def size(value: Any) -> int:
    """How many JSON values a document has, each list, object and member counted; long texts count as several."""
    total, stack = 0, [value]
    while stack:
        node = stack.pop()
        total += 1
        if isinstance(node, str):
            total += len(node) // _TEXT
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            stack.extend(node.values())
            total += sum(map(len, node)) // _TEXT
    return total
