"""`--where EXPR`: a JMESPath expression about a record, as a function that says yes or no.

JMESPath (https://jmespath.org) and not CEL: what is missing is null and no error, as it has to be where events differ;
it is one small library in pure Python, where those for CEL bring a compiled engine and a dozen packages; and both take
about the same time for a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

from orchestrator.contracts import Undecodable, decode_json
from orchestrator.contracts.headers import as_json
from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.errors import UsageError
from orchestrator.records import Record

_HINT = (
    "such as --where \"value.amount > `100` && value.status == 'CREATED'\": numbers in backticks, text in single quotes"
)
_TOO_DEEP = "nested too deeply"
#: jmespath's parser and interpreter are recursive, and take their time.
MAX_EXPRESSION = 10_000


class WrongExpression(UsageError):
    """Text that is no JMESPath expression; `reason` says why, without the text."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"--where {text}: {reason}", _HINT)
        self.reason = reason


class Where:
    """A compiled expression. `failed` counts the records that it could not be asked about, `why` has the last reason:
    `contains(value.items, 'x')` fails where there are no items. Those do not match."""

    def __init__(self, text: str) -> None:
        """Raises UsageError for what is no expression, or calls a function that does not exist."""
        if len(text) > MAX_EXPRESSION:
            raise WrongExpression(f"{text[:60]}…", f"longer than {MAX_EXPRESSION:,} characters")
        try:
            # `search()` of the compiled expression would make a new interpreter for every record: half of its time.
            self._tree = jmespath.compile(text).parsed
            unknown = sorted(set(_functions(self._tree)) - set(Functions.FUNCTION_TABLE))
        except JMESPathError as problem:
            raise WrongExpression(text, _reason(problem)) from None
        except RecursionError:
            raise WrongExpression(text, _TOO_DEEP) from None
        if unknown:
            raise WrongExpression(text, f"there is no function {unknown[0]}()")
        self._interpreter = TreeInterpreter()
        self.failed = 0
        self.why = ""

    def __call__(self, record: Record, topic: str) -> bool:
        """Whether the expression is true of `record`: not null, false, or empty (JMESPath's own rule)."""
        try:
            found = self._interpreter.visit(self._tree, document(record, topic))
        except JMESPathError as problem:
            self.failed += 1
            self.why = _reason(problem)
            return False
        except RecursionError:
            self.failed += 1
            self.why = _TOO_DEEP
            return False
        return found is not None and found is not False and found not in ("", [], {})


def document(record: Record, topic: str) -> dict[str, Any]:
    """What the expression sees: the JSON of `tail --json` (docs/json.md) and `letter`, null for what is no dead letter.

    `value` is null for what is not JSON, `key` for what is not UTF-8.
    """
    letter = read_letter(record.headers) if record.headers else None
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": None if record.timestamp < 0 else record.timestamp,
        "key": _text(record.key),
        "value": _json(record.value),
        "headers": as_json(record.headers) if record.headers else [],
        "letter": None if letter is None else _plain(asdict(letter)),
    }


def _functions(tree: dict[str, Any]) -> Iterator[str]:
    """The names of the functions that an expression calls: JMESPath itself looks at them only when it comes there."""
    if tree["type"] == "function_expression":
        yield tree["value"]
    for child in tree["children"]:
        if isinstance(child, dict):
            yield from _functions(child)


def _json(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return decode_json(raw)
    except Undecodable:
        return None


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _plain(letter: dict[str, Any]) -> dict[str, Any]:
    """JMESPath knows lists, not tuples."""
    return {**letter, "violations": list(letter["violations"])}


def _reason(problem: Exception) -> str:
    """Its first line: the others draw an arrow under the expression."""
    return str(problem).partition("\n")[0].strip()
