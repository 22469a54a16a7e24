"""The reference of the pipeline file, in Markdown, made from its grammar and its codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.config.owned import ALIASES, OWNED
from orchestrator.config.syntax import grammar, wording
from orchestrator.config.syntax.codes import CODES

#: Heading of each part and its place in a document; `NAME` is what the file's author chooses.
_PARTS = (
    ("Top level", ()),
    ("`kafka`", ("kafka",)),
    ("`defaults.topic`", ("defaults", "topic")),
    ("`defaults.dlq`", ("defaults", "dlq")),
    ("`topics.NAME`", ("topics", "NAME")),
    ("`events.NAME`", ("events", "NAME")),
    ("`handlers.NAME`", ("handlers", "NAME")),
    ("`handlers.NAME.retry`", ("handlers", "NAME", "retry")),
    ("`handlers.NAME.dedup`", ("handlers", "NAME", "dedup")),
    ("`handlers.NAME.ready`", ("handlers", "NAME", "ready")),
)


#: The same of smoke files.
_SMOKE_PARTS = (
    ("Top level", ()),
    ("`scenarios.NAME`", ("scenarios", "NAME")),
    ("A step", ("scenarios", "NAME", "steps", 0)),
    ("`send`", ("scenarios", "NAME", "steps", 0, "send")),
    ("`http`", ("scenarios", "NAME", "steps", 0, "http")),
    ("`expect` and `absent`", ("scenarios", "NAME", "steps", 0, "expect")),
    ("`accounting.HANDLER`", ("scenarios", "NAME", "steps", 0, "accounting", "HANDLER")),
)


def smoke_reference() -> str:
    """The tables of smoke files, ready to stand in docs/smoke.md."""
    return "\n\n".join(_table(title, path, grammar.SMOKE) for title, path in _SMOKE_PARTS) + "\n"


def reference() -> str:
    """All tables, ready to stand in docs/pipeline-file.md."""
    blocks = [_table(title, path) for title, path in _PARTS]
    return "\n\n".join([*blocks, _handler_defaults(), _codes()]) + "\n"


def owned() -> str:
    """The properties of Kafka's clients that are kpipe's, ready to stand in docs/pipeline-file.md."""
    also: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        also.setdefault(name, []).append(alias)
    rows = [
        f"| {', '.join(f'`{each}`' for each in (name, *also.get(name, [])))} | {reason} |"
        for name, reason in OWNED.items()
    ]
    return "| property | why |\n|---|---|\n" + "\n".join(rows) + "\n"


def _table(title: str, path: tuple[str | int, ...], of: grammar.Grammar = grammar.PIPELINE) -> str:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for part in of.at(path):
        required = part.get("required", [])
        for name, inner in part.get("properties", {}).items():
            cells = (f"`{name}`", _value(inner, of), _default(inner, name in required, of), _meaning(inner, of))
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"### {title}\n\n" + "\n".join(rows)


def _value(part: grammar.Schema, of: grammar.Grammar) -> str:
    return " or ".join(dict.fromkeys(_kind(branch) for branch in of.branches(part)))


def _kind(part: grammar.Schema) -> str:
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return wording.either(part["enum"])
    if "x-kpipe-unit" in part:
        return str(part["x-kpipe-unit"]) + (" or `unlimited`" if "unlimited" in part["pattern"] else "")
    if "x-kpipe-expected" in part and "propertyNames" not in part:
        return str(part["x-kpipe-expected"])
    if part.get("type") == "array":
        return "list of text"
    if part.get("type") == "integer" and "maximum" in part:
        return f"{part['minimum']} to {part['maximum']}"
    return wording.expected(part).removeprefix("a ")


def _default(part: grammar.Schema, required: bool, of: grammar.Grammar) -> str:
    resolved = of.resolve(part)
    if "default" not in resolved:
        return "required" if required else ""
    value: Any = resolved["default"]
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def _meaning(part: grammar.Schema, of: grammar.Grammar) -> str:
    return str(of.resolve(part)["description"])


def _handler_defaults() -> str:
    names = ", ".join(f"`{name}`" for name in _names(("defaults", "handler")))
    return f"### `defaults.handler`\n\nAny of these options of a handler: {names}."


def _names(path: tuple[str, ...]) -> Iterator[str]:
    for part in grammar.at(path):
        yield from part.get("properties", {})


def _codes() -> str:
    rows = [f"| `{code}` | {meaning} |" for code, meaning in CODES.items()]
    return "### Codes of findings\n\n| code | stands for |\n|---|---|\n" + "\n".join(rows)
