"""A document between its text and its meaning: plain values, where each stands, and the findings so far."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal

from orchestrator.config.grammar import PIPELINE, Grammar
from orchestrator.config.nodes import MapNode, Mark, Node, Path, Scalar, child, scalars
from orchestrator.config.wording import clipped
from orchestrator.records import Finding

#: Comparing two words takes a tenth of a millisecond: enough of them for all that a person would read.
MAX_COMPARISONS = 10_000
#: No message is longer, whatever names the file holds.
MAX_MESSAGE = 500


class Document:
    """`tree` holds plain JSON values; `root` the nodes they came from (None for a tree from another process).

    Values that the grammar refused are taken out of `tree` and remembered, so that the checks of what the document
    means can run on the rest. Whatever text goes into a finding passes through `shown`.
    """

    def __init__(
        self,
        tree: dict[str, Any],
        root: MapNode | None,
        file: str,
        grammar: Grammar = PIPELINE,
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        self.tree = tree
        #: The guarded properties that the user's environment allows.
        self.allowed = allowed
        self.root = root
        self.file = file
        self.grammar = grammar
        self.findings: list[Finding] = []
        self._refused: set[Path] = set()
        self._compared = 0
        self._sources = {} if root is None else _sources(root)
        self._names = {name for section in grammar.sections for name in self.section(section)}

    def find(
        self,
        code: str,
        path: Path,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Notes one finding at the value of `path`, or at its key."""
        mark = self.mark(path, key=key)
        texts = (clipped(message, MAX_MESSAGE), clipped(hint, MAX_MESSAGE))
        self.findings.append(Finding(severity, code, mark.file, mark.line, mark.column, *texts))

    def warn(self, code: str, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        self.find(code, path, message, hint, key=key, severity="warning")

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where the value (or the key) of `path` stands; what has no place of its own has that of what holds it."""
        if self.root is None:
            return Mark(self.file)
        node: Node = self.root
        mark = node.mark
        for step in path:
            inner = child(node, step)
            if inner is None:
                return mark
            mark = node.entries[step].key if isinstance(node, MapNode) and isinstance(step, str) else inner.mark
            node = inner
        return mark if key else node.mark

    def has_reference(self, path: Path) -> bool:
        """Whether the value at `path` holds a `${…}`; not known of a tree without its nodes."""
        node: Node | None = self.root
        for step in path:
            node = None if node is None else child(node, step)
        return isinstance(node, Scalar) and node.interpolated

    def shown(self, value: object) -> str:
        """`value` as it may be printed: what came from the environment or a file appears as it was written.

        Of a tree without its nodes that is not known, so nothing but its names is shown.
        """
        text = value if isinstance(value, str) else str(value)
        if self.root is None:
            return text if text in self._names else "…"
        return self._sources.get(text, text)

    def suggestion(self, word: str, known: Iterable[str]) -> str:
        """`did you mean …?` when one of the known words is close, else nothing."""
        candidates = [name for name in known if name not in self._sources]
        self._compared += len(candidates)
        if self._compared > MAX_COMPARISONS:
            return ""
        close = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
        return f"did you mean `{close[0]}`?" if close else ""

    def get(self, *path: str) -> Any:
        """The value at `path` of the tree, None where there is none."""
        value: Any = self.tree
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def section(self, *path: str) -> dict[str, Any]:
        """The mapping at `path`, empty where there is none."""
        value = self.get(*path)
        return value if isinstance(value, dict) else {}

    def refuse(self, path: Path) -> None:
        """Takes the value at `path` out of the tree; an entry of `topics`, `events` or `handlers` stays, empty."""
        self._refused.add(path)
        holder: Any = self.tree
        for step in path[:-1]:
            if not isinstance(holder, dict) or step not in holder:
                return
            holder = holder[step]
        if isinstance(holder, list):
            self.refuse(path[:-1])
        elif isinstance(holder, dict) and path and path[-1] in holder:
            named = len(path) == 2 and path[0] in self.grammar.sections
            holder.update({path[-1]: {}}) if named else holder.pop(path[-1])

    def refused(self, *path: str) -> bool:
        """Whether the value at `path`, or one that holds it, was taken out."""
        return any(path[:length] in self._refused for length in range(len(path) + 1))


def _sources(root: MapNode) -> dict[str, str]:
    """What was interpolated from outside, and how it is written in the file."""
    return {scalar.text: scalar.source for scalar in scalars(root) if scalar.source is not None and scalar.text}


def dotted(path: Path) -> str:
    """`kafka.consumer`, `handlers.payments.consumes[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"
