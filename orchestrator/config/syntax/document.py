"""A document between its text and its meaning: plain values, where each stands, and the findings so far."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from orchestrator.config.syntax.grammar import PIPELINE, Grammar
from orchestrator.config.syntax.nodes import ListNode, MapNode, Mark, Node, Path, Scalar, child, scalars
from orchestrator.config.syntax.wording import clipped
from orchestrator.outside import Origin, Outside, set_origins, shown
from orchestrator.records import Finding

#: Comparing two words takes a tenth of a millisecond: enough of them for all that a person would read.
MAX_COMPARISONS = 10_000
#: Longer words are not compared: that takes quadratic time.
MAX_WORD = 300
#: A document has no more findings; the last one is an error that says so.
MAX_FINDINGS = 10_000
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
        if len(self.findings) >= MAX_FINDINGS:
            return
        if len(self.findings) == MAX_FINDINGS - 1:
            code, severity = "too-large", "error"
            message, hint = f"more than {MAX_FINDINGS} findings: the others are not listed", "correct these first"
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
        scalar = self._scalar(path)
        return scalar is not None and scalar.interpolated

    def written(self, path: Path, value: object) -> str:
        """`value`, which stands at `path`, as it may be printed: from outside it appears as the file says it."""
        scalar = self._scalar(path)
        if self.root is None:
            return self.shown(value)
        return str(value) if scalar is None or scalar.source is None else scalar.source

    def shown(self, value: object) -> str:
        """A value of the tree as it may be printed: what came from the environment or a file as it was written.

        Of a tree without its nodes no more is shown than its names.
        """
        if not isinstance(value, str):
            return self.figure(str(value))
        text = shown(value)
        return text if self.root is not None or text in self._names else "…"

    def figure(self, text: str) -> str:
        """As `shown`, for a number or a duration that was computed: one that equals a value from outside may be it."""
        if self.root is None:
            return "…"
        return self._sources.get(text, text)

    def mark_outside(self, origins: Iterable[Origin]) -> None:
        """Let the texts of the tree that came from outside say so: the nodes know which, else `origins` do.

        Not before the grammar was applied, because its validator takes plain texts only.
        """
        set_origins(self.tree, origins if self.root is None else _places(self.root))

    def _scalar(self, path: Path) -> Scalar | None:
        node: Node | None = self.root
        for step in path:
            node = None if node is None else child(node, step)
        return node if isinstance(node, Scalar) else None

    def suggestion(self, word: str, known: Iterable[str]) -> str:
        """`did you mean …?` when one of the known words is close, else nothing."""
        if self._compared > MAX_COMPARISONS or len(word) > MAX_WORD:
            return ""
        candidates = [name for name in known if not isinstance(name, Outside) and len(name) <= MAX_WORD]
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


def _places(node: Node, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every scalar that was interpolated from outside: its place, and how it is written in the file."""
    if isinstance(node, Scalar):
        if node.source is not None:
            yield path, node.source
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from _places(item, (*path, index))
    else:
        for key, entry in node.entries.items():
            yield from _places(entry.value, (*path, key))


def _sources(root: MapNode) -> dict[str, str]:
    """What was interpolated from outside, and how it is written in the file."""
    return {scalar.text: scalar.source for scalar in scalars(root) if scalar.source is not None and scalar.text}


def dotted(path: Path) -> str:
    """`kafka.consumer`, `handlers.payments.consumes[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text or "the file"
