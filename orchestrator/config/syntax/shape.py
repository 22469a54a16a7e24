"""The grammar applied: every way in which the tree's shape is wrong, as findings in the user's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind as Kind

from orchestrator.config.syntax import grammar
from orchestrator.config.syntax.document import Document, dotted
from orchestrator.config.syntax.nodes import Path
from orchestrator.config.syntax.wording import clipped, described, either, expected, unit_hint

_KINDS = ("python", "exec", "http", "service")


@dataclass(frozen=True, slots=True)
class _Wrong:
    """One refusal: `error` as jsonschema-rs reports it, at `path`, by `part` of the grammar."""

    doc: Document
    error: jsonschema_rs.ValidationError
    path: Path
    part: grammar.Schema

    @property
    def value(self) -> Any:
        return self.error.instance

    @property
    def got(self) -> str:
        return described(self.value, self.shown)

    @property
    def shown(self) -> str:
        return self.doc.written(self.path, self.value)

    def find(self, code: str, message: str, hint: str = "", *, path: Path | None = None, key: bool = False) -> None:
        place = self.path if path is None else path
        self.doc.find(code, place, f"{dotted(place)}: {message}", hint, key=key)

    def refuse(self) -> None:
        self.doc.refuse(self.path)


@cache
def _validator(of: grammar.Grammar) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(dict(of.root))


def check_shape(doc: Document) -> None:
    """Notes what the grammar refuses, and takes the refused values out of the tree."""
    for error in [inner for outer in _validator(doc.grammar).iter_errors(doc.tree) for inner in _unfolded(outer)]:
        wrong = _Wrong(doc, error, tuple(error.instance_path), _part(doc.grammar, error.schema_path))
        _RULES.get(error.kind.name, _other)(wrong)


def _unfolded(error: jsonschema_rs.ValidationError) -> Iterator[jsonschema_rs.ValidationError]:
    """An `anyOf` error as those of the alternative that was meant: a mapping means the one for mappings."""
    kind = error.kind
    meant = kind.context if isinstance(kind, Kind.AnyOf) and isinstance(error.instance, dict) else []
    for alternative in meant:
        own = [inner for inner in alternative if inner.instance_path == error.instance_path]
        if not any(inner.kind.name in ("const", "type") for inner in own):
            for inner in alternative:
                yield from _unfolded(inner)
            return
    yield error


def _part(of: grammar.Grammar, schema_path: list[str | int]) -> grammar.Schema:
    """The part of the grammar whose keyword failed."""
    part: Any = of.root
    for step in schema_path[:-1]:
        part = of.resolve(part) if step == "$ref" else part[step]
    return of.resolve(part) if isinstance(part, dict) else {}


def _other(wrong: _Wrong) -> None:
    wrong.find("type", f"expected {expected(wrong.part)}, got {wrong.got}", _type_hint(wrong))
    wrong.refuse()


def _type_hint(wrong: _Wrong) -> str:
    wanted = wrong.part.get("type")
    if "x-kpipe-unit" in wrong.part:
        return unit_hint(wrong.part, wrong.value, wrong.shown)
    if wanted == "string" and isinstance(wrong.value, (int, float)):
        return "put it in quotes"
    if wanted == "integer" and isinstance(wrong.value, str) and re.fullmatch("[1-9][0-9]{0,8}", wrong.value):
        return "remove the quotes"
    if wanted == "boolean" and str(wrong.value).lower() in ("yes", "on", "no", "off"):
        return f"write `{'true' if str(wrong.value).lower() in ('yes', 'on') else 'false'}`"
    if wanted == "array" and isinstance(wrong.value, str):
        return f"write [{wrong.shown}]"
    return ""


def _type(wrong: _Wrong) -> None:
    if "x-kpipe-unit" in wrong.part and isinstance(wrong.value, (int, float)) and not isinstance(wrong.value, bool):
        wrong.find("unit", f"{wrong.got} has no unit", _type_hint(wrong))
        wrong.refuse()
    elif wrong.value is None:
        wrong.find("type", f"has no value: expected {expected(wrong.part)}", "write one, or remove the key")
        wrong.refuse()
    else:
        _other(wrong)


def _pattern(wrong: _Wrong) -> None:
    code = "unit" if "x-kpipe-unit" in wrong.part else "value"
    wrong.find(code, f"expected {expected(wrong.part)}, got {wrong.got}", _type_hint(wrong))
    wrong.refuse()


def _const(wrong: _Wrong) -> None:
    only = wrong.part["const"]
    wrong.find("version", f"expected {only}, got {wrong.got}", f"this kpipe reads version {only} of the format")
    wrong.refuse()


def _enum(wrong: _Wrong) -> None:
    options = wrong.part["enum"]
    hint = wrong.doc.suggestion(str(wrong.value), options) if wrong.shown == wrong.value else ""
    wrong.find("value", f"expected {either(options)}, got {wrong.got}", hint)
    wrong.refuse()


def _any_of(wrong: _Wrong) -> None:
    hint = "write `off` to switch it off" if wrong.value in (False, "none", "no", "false") else ""
    wrong.find("type", f"expected {expected(wrong.part)}, got {wrong.got}", hint)
    wrong.refuse()


def _range(wrong: _Wrong) -> None:
    least, most = wrong.part.get("minimum"), wrong.part.get("maximum")
    limits = f"at least {least}" if wrong.error.kind.name == "minimum" else f"at most {most}"
    wrong.find("value", f"expected {limits}, got {wrong.got}")
    wrong.refuse()


def _length(wrong: _Wrong) -> None:
    most = wrong.part.get("maxLength")
    message = f"is longer than {most} characters" if wrong.error.kind.name == "maxLength" else "is empty"
    wrong.find("value", message, "" if most else "write a value, or remove the key")
    wrong.refuse()


def _unique(wrong: _Wrong) -> None:
    seen: set[str] = set()
    for index, item in enumerate(wrong.value):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            place = (*wrong.path, index)
            wrong.find(
                "value", f"`{clipped(wrong.doc.written(place, item))}` is in the list twice", "remove one", path=place
            )
        seen.add(text)


def _unknown(wrong: _Wrong) -> None:
    known = wrong.part.get("properties", {})
    kind = wrong.error.kind
    assert isinstance(kind, Kind.AdditionalProperties)
    for key in kind.unexpected:
        hint = wrong.doc.suggestion(key, known) or f"known here: {', '.join(known)}"
        wrong.find("unknown-key", "unknown key", hint, path=(*wrong.path, key), key=True)
        wrong.doc.refuse((*wrong.path, key))


def _required(wrong: _Wrong) -> None:
    kind = wrong.error.kind
    assert isinstance(kind, Kind.Required)
    name = kind.property
    if wrong.path[:1] == ("handlers",) and _depends_on_kind(name, wrong.value):
        return
    text = "a handler that is not a service needs `consumes`" if name == "consumes" else f"`{name}` is missing"
    described_in = wrong.doc.grammar.below(wrong.doc.grammar.at(wrong.path), name)
    hint = str(described_in[0].get("description", "")) if described_in else ""
    wrong.find("missing-key", text, hint, key=True)


def _depends_on_kind(name: str, handler: Mapping[str, Any]) -> bool:
    """Whether another finding says it better: what a handler needs depends on its kind."""
    if name == "consumes":
        return not any(kind in handler for kind in _KINDS)
    return name == "port" and "service" not in handler


def _names(wrong: _Wrong) -> None:
    kind = wrong.error.kind
    assert isinstance(kind, Kind.PropertyNames)
    name = str(kind.error.instance)
    part = wrong.doc.grammar.resolve(wrong.part.get("propertyNames", wrong.part))
    wrong.doc.find(
        "name",
        (*wrong.path, name),
        f"{dotted((*wrong.path, name))}: the name has to be {expected(part)}",
        key=True,
    )


def _one_kind(wrong: _Wrong) -> None:
    if not isinstance(wrong.value, dict):
        return  # its type is a finding already
    what = wrong.part.get("x-kpipe-what", "a handler")
    known = wrong.part.get("x-kpipe-kinds", _KINDS)
    such_as = wrong.part.get("x-kpipe-such-as", "such as `python: handlers.payments:authorize`")
    kinds = [kind for kind in known if kind in wrong.value]
    *others, last = (f"`{kind}`" for kind in known)
    wanted = f"{what} is exactly one of {', '.join(others)} and {last}"
    found = f"this one has {' and '.join(f'`{kind}`' for kind in kinds)}" if kinds else "this one has none of them"
    wrong.find("handler-kind" if what == "a handler" else "step-kind", f"{wanted}; {found}", such_as, key=True)


def _not(wrong: _Wrong) -> None:
    wrong.find("misplaced-key", str(wrong.part["x-kpipe-why"]), "remove it", key=True)
    wrong.refuse()


_RULES: Mapping[str, Callable[[_Wrong], None]] = {
    "type": _type,
    "pattern": _pattern,
    "const": _const,
    "enum": _enum,
    "anyOf": _any_of,
    "minimum": _range,
    "maximum": _range,
    "minLength": _length,
    "maxLength": _length,
    "minItems": _length,
    "uniqueItems": _unique,
    "additionalProperties": _unknown,
    "required": _required,
    "propertyNames": _names,
    "oneOfNotValid": _one_kind,
    "oneOfMultipleValid": _one_kind,
    "oneOf": _one_kind,
    "not": _not,
}
