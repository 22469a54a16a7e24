"""What `kpipe send` sends: the declared example, fresh ids and times, then what the user says.

Later wins: example < `generate` < JSON (RFC 7396 merge patch) < `--set`. So a generated field is fresh in
every event unless the user gives it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.model import EventTemplate
from orchestrator.config.reading import MAX_JSON, Reach
from orchestrator.contracts.codec import Undecodable, decode_json
from orchestrator.contracts.paths import Step, json_path, parse_path
from orchestrator.errors import UsageError

#: What `generate` can name, with the argument of `build_example` that supplies it.
GENERATORS = ("uuid", "now")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One `--set path=value`."""

    path: tuple[Step, ...]
    value: Any


def load_example(template: EventTemplate, base: Path, decode: Callable[[bytes], Any] = decode_json) -> Any:
    """The template's example file as a value; {} when it declares none. Raises UsageError.

    `decode` raises Undecodable, as `decode_json` does.
    """
    if template.example is None:
        return {}
    path = base / template.example
    try:
        return decode(Reach.of(base, os.environ).read(path, MAX_JSON))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}", getattr(error, "hint", "")) from None
    except Undecodable as error:
        raise UsageError(f"{path}: not JSON: {error.reason}") from None


def build_example(
    example: Any,
    generate: Mapping[str, str],
    patches: Sequence[Any] = (),
    assignments: Iterable[Assignment] = (),
    *,
    new_id: Callable[[], str],
    now: Callable[[], str],
) -> Any:
    """One event's value. `new_id` and `now` are called once for every generated field. Raises UsageError.

    Arguments are not changed. `generate` is ignored for an example that is no object.
    """
    sources = {"uuid": new_id, "now": now}
    value = example  # `assign` and `merge_patch` make new values
    if isinstance(value, dict):
        for path, kind in generate.items():
            value = assign(value, parse_path(path), sources[kind]())
    for patch in patches:
        value = merge_patch(value, patch)
    for assignment in assignments:
        value = assign(value, assignment.path, assignment.value)
    return value


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects merge member by member, null removes, all else replaces. Returns a new value."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged


def parse_assignment(text: str) -> Assignment:
    """`a.b=1`, `items[0]="x"`, `note=some text`: a value that is JSON counts as JSON, any other as a string.

    Unlike in a merge patch, `a=null` sets null. Raises UsageError.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: no '='", "Write --set field=value, such as --set amount=99.99")
    try:
        return Assignment(parse_path(path.strip()), _json_or_text(value))
    except ValueError as error:
        raise UsageError(f"--set {text}: {error}", "Write --set a.b=1 or --set items[0]=laptop") from None


def _json_or_text(text: str) -> Any:
    try:
        return decode_json(text.encode())
    except (Undecodable, UnicodeEncodeError):
        return text


def assign(value: Any, path: Sequence[Step], new: Any) -> Any:
    """`value` with `new` at `path`; missing objects on the way are made. Returns a new value.

    An array takes an index it has, or the next one. Raises UsageError where the path cannot lead.
    """
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return _assign_index(value, step, rest, new)
    if isinstance(value, list):
        raise UsageError(f"{json_path([step])}: an array has no member of that name", "Use an index: items[0]")
    merged = dict(value) if isinstance(value, dict) else {}
    merged[step] = assign(merged.get(step), rest, new)
    return merged


def _assign_index(value: Any, index: int, rest: Sequence[Step], new: Any) -> list[Any]:
    items = list(value) if isinstance(value, list) else []
    if index > len(items):
        raise UsageError(f"index [{index}]: the array has {len(items)} items", f"The next free one is [{len(items)}]")
    if index == len(items):
        items.append(None)
    items[index] = assign(items[index], rest, new)
    return items
