"""JSON paths as people write them: `$.items[0].sku`, `$["a b"]`; read (`--set`) and written (violations)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache

#: One step of a path: a member's name or an array's index.
Step = str | int

#: No JSON document that kpipe reads or writes is nested deeper.
MAX_STEPS = 254

_STEP = re.compile(
    r"""\.?(?P<name>[^.\[\]"]+)      # .name, or name at the start
      | \[(?P<index>[0-9]{1,9})\]
      | \[(?P<quoted>"(?:[^"\\]|\\.)*")\]""",
    re.VERBOSE,
)


def json_path(steps: Iterable[Step]) -> str:
    """`["items", 0, "a b"]` -> `$.items[0]["a b"]`."""
    return "$" + "".join(_written(step) for step in steps)


def _written(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if step.isidentifier():
        return f".{step}"
    quoted = json.dumps(step, ensure_ascii=False)
    return f"[{quoted.encode('utf-8', 'backslashreplace').decode()}]"


@lru_cache(maxsize=256)
def parse_path(text: str) -> tuple[Step, ...]:
    """The opposite of `json_path`, with or without the leading `$`. Raises ValueError with the reason."""
    rest = text.removeprefix("$")
    if not rest or rest == ".":
        raise ValueError(f"{text!r} names no field")
    steps: list[Step] = []
    position = 0
    while position < len(rest):
        match = _STEP.match(rest, position)
        if match is None or (match["name"] and steps and rest[position] != "."):
            raise ValueError(f"{text!r} is not a path like a.b or items[0]")
        if len(steps) == MAX_STEPS:
            raise ValueError(f"{text[:40]!r}… has more than {MAX_STEPS} steps")
        steps.append(_read(match))
        position = match.end()
    return tuple(steps)


def _read(match: re.Match[str]) -> Step:
    if match["index"] is not None:
        return int(match["index"])
    if match["quoted"] is not None:
        return str(json.loads(match["quoted"]))
    return match["name"]
