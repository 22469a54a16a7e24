"""From the words of `kpipe send` to the values of its events: example, generated fields, JSON, `--set`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.cli import exact
from orchestrator.cli.documents import Raw, documents
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.model import EventTemplate
    from orchestrator.contracts.examples import Assignment


@dataclass(frozen=True, slots=True)
class Draft:
    """One event before its generated fields: what it starts from, and what is put over it."""

    start: Any
    generate: Mapping[str, str]
    patches: tuple[Any, ...]
    assignments: tuple[Assignment, ...]

    def value(self) -> Any:
        """The event's value; generated fields are fresh at every call. Raises UsageError."""
        from orchestrator.contracts.examples import build_example

        return build_example(self.start, self.generate, self.patches, self.assignments, new_id=_new_id, now=_now)


def drafts(
    template: EventTemplate | None,
    base: Path,
    body: str | None,
    fields: tuple[str, ...],
    *,
    allow_raw: bool,
) -> list[Draft]:
    """One draft for every document in `body`, or the one of the template's example alone. Raises UsageError.

    Without a template (a topic was named) a document is the event as it stands. With `allow_raw` what is not
    JSON becomes a `Raw`, with nothing put over it.
    """
    assignments = tuple(_assignment(text) for text in fields)
    given = [] if body is None else documents(body, allow_raw=allow_raw)
    if any(isinstance(document, Raw) for document in given):
        if assignments:
            raise UsageError("--set needs JSON to set a field in", "without it the bytes are sent as they stand")
        return [Draft(raw, {}, (), ()) for raw in given]
    if template is None:
        return [Draft(document, {}, (), assignments) for document in given or _from_scratch(assignments)]
    example = _example(template, base)
    patches: list[tuple[Any, ...]] = [(document,) for document in given] or [()]
    return [Draft(example, template.generate, patch, assignments) for patch in patches]


def _from_scratch(assignments: tuple[Assignment, ...]) -> list[Any]:
    if not assignments:
        raise UsageError("a topic has no example to send", "give the event: kpipe send TOPIC '{…}' (or @FILE, or -)")
    return [{}]


def _example(template: EventTemplate, base: Path) -> Any:
    if template.example is None:
        return {}
    found = documents(f"@{base / template.example}", allow_raw=False)
    if len(found) != 1:
        raise UsageError(f"{base / template.example} has {len(found)} documents", "an example is one")
    return found[0]


def _assignment(text: str) -> Assignment:
    from orchestrator.contracts import Undecodable
    from orchestrator.contracts.examples import Assignment, parse_assignment

    parsed = parse_assignment(text)
    try:
        # The same value, its digits kept.
        return Assignment(parsed.path, exact.parse(text.partition("=")[2].encode()))
    except (Undecodable, UnicodeEncodeError):
        return parsed


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
