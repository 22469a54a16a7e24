"""From the words of `kpipe send` to the values of its events: example, generated fields, JSON, `--set`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from random import getrandbits
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.operations.records import exact_json
from orchestrator.operations.send.input import Documents, Raw

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.model import EventTemplate
    from orchestrator.contracts.examples import Assignment
    from orchestrator.operations.send.fake import FakeEvents
    from orchestrator.operations.send.recorded import Recorded


@dataclass(frozen=True, slots=True)
class Draft:
    """One event before its generated fields: what it starts from, and what is put over it.

    `line` is where it came from in JSON lines, 0 otherwise. `recorded` has the key and headers that come with it.
    """

    start: Any
    generate: Mapping[str, str]
    patches: tuple[Any, ...]
    assignments: tuple[Assignment, ...]
    line: int = 0
    recorded: Recorded | None = None
    made: FakeEvents | None = None
    validate: bool = True

    def value(self) -> Any:
        """The event's value; generated fields are fresh at every call. Raises UsageError, with `made` ContractError."""
        if self.made is not None:
            return self.made.value(self, validate=self.validate)
        from orchestrator.contracts.examples import build_example

        return build_example(self.start, self.generate, self.patches, self.assignments, new_id=_new_id, now=_now)


class Drafts:
    """The drafts of one input, in order, each time it is iterated; none of them is kept."""

    def __init__(self, make: Callable[[int, Any], Draft], given: Documents | None, otherwise: Sequence[Any]) -> None:
        self._make, self._given, self._otherwise = make, given, otherwise

    def __iter__(self) -> Iterator[Draft]:
        numbered = ((0, document) for document in self._otherwise) if self._given is None else self._given.numbered()
        return (self._make(line, document) for line, document in numbered)


#: Stands for "nothing is put over the example".
_ALONE = object()


def drafts(
    template: EventTemplate | None,
    base: Path,
    body: str | None,
    fields: tuple[str, ...],
    *,
    allow_raw: bool,
    records: bool = False,
    made: FakeEvents | None = None,
) -> Drafts:
    """One draft for every document in `body`, or the one of the template's example alone. Raises UsageError.

    Without a template (a topic was named) a document is the event as it stands. With `allow_raw` what is not
    JSON becomes a `Raw`, with nothing put over it. With `records` every document is a record with its key and headers,
    and no example is under it. With `made` every event is made up, and documents are merged over it.
    """
    assignments = tuple(_assignment(text) for text in fields)
    if records:
        if body is None:
            raise UsageError("--records needs records", "give them: kpipe send TOPIC --records - (or @FILE)")
        return Drafts(partial(_again, assignments), Documents(body, allow_raw=False), ())
    given = None if body is None else Documents(body, allow_raw=allow_raw and made is None)
    if made is not None:
        generate = {} if template is None else template.generate
        return Drafts(partial(_made_up, made, generate, assignments, not allow_raw), given, [_ALONE])
    if template is None:
        return Drafts(partial(_as_it_stands, assignments), given, () if given else _from_scratch(assignments))
    return Drafts(partial(_over, _example(template, base), template.generate, assignments), given, [_ALONE])


def _as_it_stands(assignments: tuple[Assignment, ...], line: int, document: Any) -> Draft:
    return _raw(document, assignments) or Draft(document, {}, (), assignments, line)


def _over(
    example: Any, generate: Mapping[str, str], assignments: tuple[Assignment, ...], line: int, document: Any
) -> Draft:
    patches = () if document is _ALONE else (document,)
    return _raw(document, assignments) or Draft(example, generate, patches, assignments, line)


def _made_up(
    made: FakeEvents,
    generate: Mapping[str, str],
    assignments: tuple[Assignment, ...],
    validate: bool,
    line: int,
    document: Any,
) -> Draft:
    patches = () if document is _ALONE else (document,)
    return Draft(None, generate, patches, assignments, line, made=made, validate=validate)


def _again(assignments: tuple[Assignment, ...], line: int, document: Any) -> Draft:
    from orchestrator.operations.send.recorded import recorded

    found = recorded(document, f"line {line}" if line else "the input")
    return replace(_as_it_stands(assignments, line, found.value), line=line, recorded=found)


def _raw(document: Any, assignments: tuple[Assignment, ...]) -> Draft | None:
    if not isinstance(document, Raw):
        return None
    if assignments:
        raise UsageError("--set needs JSON to set a field in", "without it the bytes are sent as they stand")
    return Draft(document, {}, (), ())


def _from_scratch(assignments: tuple[Assignment, ...]) -> list[Any]:
    if not assignments:
        raise UsageError("a topic has no example to send", "give the event: kpipe send TOPIC '{…}' (or @FILE, or -)")
    return [{}]


def _example(template: EventTemplate, base: Path) -> Any:
    from orchestrator.contracts.examples import load_example

    return load_example(template, base, exact_json.parse)


def _assignment(text: str) -> Assignment:
    from orchestrator.contracts import Undecodable
    from orchestrator.contracts.examples import Assignment, parse_assignment

    parsed = parse_assignment(text)
    try:
        # The same value, its digits kept.
        return Assignment(parsed.path, exact_json.parse(text.partition("=")[2].encode()))
    except (Undecodable, UnicodeEncodeError):
        return parsed


def _new_id() -> str:
    # `uuid4` asks the system for chance each time: half of what an event costs otherwise.
    return str(uuid.UUID(int=getrandbits(128), version=4))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
