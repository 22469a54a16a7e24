"""What a smoke step expects, held against what is there: values, records, responses. Nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from orchestrator.config.scenarios import REFERENCE
from orchestrator.operations.records.where import document
from orchestrator.records import Record
from orchestrator.text import dumps

_WHOLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def difference(expected: Any, found: Any, path: str = "$") -> str:
    """Why `found` is not what was `expected`; "" when it is. Members that are not expected may be anything."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"{path}: expected an object, found {shown(found)}"
        for name, value in expected.items():
            inner = f"{path}.{name}"
            if name not in found:
                return f"{inner} is missing"
            if why := difference(value, found[name], inner):
                return why
        return ""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return f"{path}: expected {shown(expected)}, found {shown(found)}"
        each = (difference(e, f, f"{path}[{n}]") for n, (e, f) in enumerate(zip(expected, found, strict=True)))
        return next(filter(None, each), "")
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return "" if same else f"{path}: expected {shown(expected)}, found {shown(found)}"


def shown(value: Any, most: int = 200) -> str:
    """JSON, shortened."""
    try:
        text = dumps(value)
    except ValueError:
        text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def filled(value: Any, scope: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    """`value` with every `${name}` replaced; a text that is nothing else becomes what the name stands for."""
    if isinstance(value, dict):
        return {key: filled(inner, scope, environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, scope, environ) for inner in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    whole = _WHOLE.fullmatch(value)
    if whole is not None and whole[1] in scope:
        return scope[whole[1]]

    def text(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return "$"
        known = scope[name] if name in scope else environ.get(name) or found["default"] or ""
        return known if isinstance(known, str) else shown(known, 1_000_000)

    return REFERENCE.sub(text, value)


def check_expression(text: str) -> str:
    """Why `text` is no JMESPath expression, "" when it is one."""
    from orchestrator.operations.records.where import Where, WrongExpression

    try:
        Where(text)
    except WrongExpression as problem:
        return problem.reason
    return ""


def ask(expression: str, about: Mapping[str, Any]) -> Any:
    """What the expression finds; None also where it cannot be asked."""
    try:
        return jmespath.search(expression, about)
    except (JMESPathError, RecursionError):
        return None


def judge_record(spec: Mapping[str, Any], record: Record, topic: str) -> str:
    """Why `record` is not what the step describes; "" when it is."""
    seen = document(record, topic)
    letter = seen["letter"] or {}
    for what, expected, found in (
        ("reason", spec.get("reason"), letter.get("reason")),
        ("handler", spec.get("handler"), letter.get("handler")),
        ("key", spec.get("key"), seen["key"]),
        ("raw", spec.get("raw"), None if record.value is None else record.value.decode("utf-8", "replace")),
    ):
        if expected is not None and expected != found:
            return f"{what}: expected {shown(expected)}, found {shown(found)}"
    for name, value in spec.get("headers", {}).items():
        if [name, str(value)] not in seen["headers"]:
            return f"the header {name} is not {value}"
    return _judge_json(spec, seen, seen["value"])


def judge_response(spec: Mapping[str, Any], response: Mapping[str, Any]) -> str:
    """Why the response is not what the step describes; "" when it is."""
    wanted, status = spec.get("status"), response["status"]
    if (wanted is None and not 200 <= status < 300) or (wanted is not None and status != wanted):
        return f"status: expected {wanted or '2xx'}, found {status}: {shown(response['json'] or response['text'])}"
    return _judge_json(spec, response, response["json"])


def _judge_json(spec: Mapping[str, Any], seen: Mapping[str, Any], value: Any) -> str:
    if "match" in spec and (why := difference(spec["match"], value)):
        return why
    if "where" in spec:
        found = ask(spec["where"], seen)
        if found is None or found is False or found in ("", [], {}):
            return f"where: {spec['where']} is {shown(found)}"
    return ""
