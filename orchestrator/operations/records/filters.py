"""Which records are wanted: by key, header, expression and pattern, all of them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.operations.records.where import Where
    from orchestrator.records import Headers, Record


@dataclass(frozen=True, slots=True)
class Filter:
    """What was asked for; what is None or empty lets everything through."""

    key: bytes | None = None
    headers: Headers = ()
    grep: re.Pattern[str] | None = None
    where: Where | None = None

    @property
    def given(self) -> bool:
        """Whether there is anything to filter by."""
        return self != Filter()

    def on(self, names: Mapping[str, str]) -> Callable[[Record], bool]:
        """The test of a record; `names` are the file's names of topics by the cluster's."""

        def wants(record: Record) -> bool:
            return (
                (self.key is None or record.key == self.key)
                and all(header in record.headers for header in self.headers)
                and (self.grep is None or matches(self.grep, record))
                and (self.where is None or self.where(record, names[record.topic]))
            )

        return wants


def filter_of(key: str | None, headers: Headers, grep: str | None, where: str | None) -> Filter:
    """The filter for a key, headers, a pattern and an expression, each as text. Raises UsageError."""
    raw_key = None if key is None else key.encode("utf-8", "surrogateescape")
    return Filter(raw_key, headers, _pattern(grep), _expression(where))


def matches(pattern: re.Pattern[str], record: Record) -> bool:
    """Whether the pattern is somewhere in the key, the value or a header's value, as they are shown."""
    parts = (record.key, record.value, *(value for _, value in record.headers))
    return any(part is not None and pattern.search(part.decode("utf-8", "backslashreplace")) for part in parts)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except (re.error, RecursionError, OverflowError) as problem:
        raise UsageError(
            f"--grep {text}: not a regular expression: {problem}",
            "write a \\ before a character that is meant as it stands, such as \\( or \\*",
        ) from None


def _expression(text: str | None) -> Where | None:
    if text is None:
        return None
    from orchestrator.operations.records.where import Where

    return Where(text)
