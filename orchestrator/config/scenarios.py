"""Smoke files: what a pipeline is tried with, read and checked like the pipeline file.

A step stays the mapping that the file has, since its grammar has checked it. `${name}` in its values stands for what
`generate` or an earlier step's `capture` names, else for an environment variable (`${NAME:-default}`); it is
replaced when the step is run.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import units
from orchestrator.config.guarded import ALLOW
from orchestrator.config.model import Pipeline
from orchestrator.config.reading import Reach
from orchestrator.config.syntax.document import Document
from orchestrator.config.syntax.grammar import SMOKE
from orchestrator.config.syntax.nodes import Mark
from orchestrator.config.syntax.nodes import Path as Place
from orchestrator.config.syntax.parse import MAX_BYTES, parse
from orchestrator.config.syntax.shape import check_shape
from orchestrator.config.syntax.values import plain
from orchestrator.records import Finding

KINDS = ("send", "http", "expect", "absent", "accounting")
REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")
_WITHIN = "15s"
_MOST_LISTED = 20

#: Why a JMESPath expression cannot be read; "" when it can.
CheckExpression = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """`spec` is what stands under the step's kind; `within` is in seconds."""

    kind: str
    spec: Mapping[str, Any]
    capture: Mapping[str, str]
    within: float
    mark: Mark


@dataclass(frozen=True, slots=True)
class Scenario:
    """`generate` names values that are fresh at every run: `uuid` or `now`."""

    name: str
    steps: tuple[ScenarioStep, ...]
    generate: Mapping[str, str]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Smoke:
    """The scenarios of some files, and what is wrong with the files. With an error among that there are none."""

    scenarios: tuple[Scenario, ...]
    env: Mapping[str, str]
    findings: tuple[Finding, ...]


def smoke_files(base: Path, environ: Mapping[str, str]) -> list[Path]:
    """What is beside the pipeline file: `smoke.yaml`, and all of `smoke/*.yaml`."""
    folder = base / "smoke"
    beside = [base / "smoke.yaml"] if os.path.lexists(base / "smoke.yaml") else []
    return [*beside, *(folder / name for name in Reach.of(base, environ).names(folder, ".yaml"))]


def load_smoke(
    files: Sequence[Path],
    pipeline: Pipeline | None,
    environ: Mapping[str, str],
    check: CheckExpression,
    base: Path | None = None,
) -> Smoke:
    """Wrong content is a finding, never an exception. Without a pipeline names are not looked up in it.

    `base` is the project's folder where the project names the files; without it the user did.
    """
    scenarios: list[Scenario] = []
    env: dict[str, str] = {}
    findings: list[Finding] = []
    for file in files:
        doc, found = _read(file, Reach.of(file.absolute().parent if base is None else base, environ))
        findings += found
        if doc is None:
            continue
        check_shape(doc)
        _Checks(doc, pipeline, environ, check).run()
        findings += sorted(doc.findings, key=lambda finding: (finding.line, finding.column, finding.message))
        if not any(finding.severity == "error" for finding in doc.findings):
            env |= {name: str(value) for name, value in doc.section("env").items()}
            scenarios += _scenarios(doc)
    failed = any(finding.severity == "error" for finding in findings)
    return Smoke(() if failed else tuple(scenarios), env, tuple(dict.fromkeys(findings)))


def _read(file: Path, reach: Reach) -> tuple[Document | None, list[Finding]]:
    try:
        raw = reach.read(file, MAX_BYTES)
    except OSError as error:
        what = f"cannot be read: {error.strerror or 'unknown reason'}"
        code = "too-large" if error.errno == errno.EFBIG else "missing-file"
        return None, [Finding("error", code, str(file), 0, 0, what, getattr(error, "hint", ""))]
    root, findings = parse(raw, str(file), begin="`smoke: 1`", smallest="`smoke: 1` and `scenarios`")
    if root is None:
        return None, findings
    return Document(plain(root, SMOKE.branches(SMOKE.root), SMOKE), root, str(file), SMOKE), findings


def _scenarios(doc: Document) -> Iterator[Scenario]:
    usual = doc.get("within") or _WITHIN
    for name, scenario in doc.section("scenarios").items():
        within = scenario.get("within", usual)
        path: Place = ("scenarios", name)
        steps = tuple(
            _step(step, within, doc.mark((*path, "steps", index))) for index, step in enumerate(scenario["steps"])
        )
        yield Scenario(name, steps, scenario.get("generate", {}), doc.mark(path, key=True))


def _step(step: Mapping[str, Any], within: str, mark: Mark) -> ScenarioStep:
    kind = next(kind for kind in KINDS if kind in step)
    seconds = units.seconds(step.get("within", within))
    return ScenarioStep(kind, step[kind], step.get("capture", {}), seconds, mark)


class _Checks:
    """What a smoke file of the right shape can still get wrong: names, expressions, references."""

    def __init__(
        self, doc: Document, pipeline: Pipeline | None, environ: Mapping[str, str], check: CheckExpression
    ) -> None:
        self._doc = doc
        self._pipeline = pipeline
        self._environ = environ
        self._check = check
        topics = {} if pipeline is None else pipeline.topics
        handlers = () if pipeline is None else tuple(pipeline.handlers.values())
        self._dlqs = {topic.name for topic in topics.values() if topic.is_dlq}
        self._topics = {topic.name for topic in topics.values() if not topic.is_dlq}
        self._all = self._topics | self._dlqs
        self._services = {handler.name for handler in handlers if handler.port is not None}
        self._consumers = {handler.name for handler in handlers if handler.consumes}

    def run(self) -> None:
        if ALLOW in self._doc.section("env"):
            hint = "set it in your own environment, if you trust the pipeline file"
            self._doc.find("env", ("env", ALLOW), f"`{ALLOW}` is the user's to say, not a file's", hint, key=True)
        for name, scenario in self._doc.section("scenarios").items():
            if not isinstance(scenario, dict) or not isinstance(scenario.get("steps"), list):
                continue
            known = set(scenario.get("generate", {}))
            for index, step in enumerate(scenario["steps"]):
                if not isinstance(step, dict):
                    continue
                path: Place = ("scenarios", name, "steps", index)
                self._references(step, path, known)
                self._names(step, path)
                self._expressions(step, path)
                known |= set(step.get("capture", {}))

    def _references(self, value: Any, path: Place, known: set[str]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                # Backticks and braces have a meaning of their own in JMESPath.
                if key != "capture":
                    self._references(inner, (*path, key), known)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self._references(inner, (*path, index), known)
        elif isinstance(value, str):
            # Behind the last `}` no reference ends, and looking for the end of each would take quadratic time.
            for found in REFERENCE.finditer(value, 0, value.rfind("}") + 1):
                name = found["name"]
                if name and name not in known and name not in self._environ and found["default"] is None:
                    hint = (
                        self._doc.suggestion(name, known)
                        or "capture it in an earlier step, or write `$$` for a dollar sign"
                    )
                    self._doc.find("reference", path, f"`{name}` is not known here", hint)

    def _names(self, step: Mapping[str, Any], path: Place) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            return
        self._known(step, path, "send", "event", pipeline.events, "event")
        self._known(step, path, "send", "topic", pipeline.topics, "topic")
        self._known(step, path, "http", "handler", self._services, "service with a `port`")
        for kind in ("expect", "absent"):
            self._known(step, path, kind, "topic", self._all, "topic")
            self._known(step, path, kind, "dlq", self._dlqs, "DLQ")
            self._known(step, path, kind, "handler", self._consumers, "handler that consumes")
        accounting = step.get("accounting")
        for name in accounting if isinstance(accounting, dict) else ():
            if name not in self._consumers:
                self._unknown((*path, "accounting", name), name, self._consumers, "handler that consumes", key=True)

    def _known(self, step: Mapping[str, Any], path: Place, kind: str, key: str, names: Any, what: str) -> None:
        spec = step.get(kind)
        if isinstance(spec, dict) and key in spec and spec[key] not in names:
            self._unknown((*path, kind, key), spec[key], names, what)

    def _unknown(self, path: Place, name: str, names: Any, what: str, *, key: bool = False) -> None:
        hint = self._doc.suggestion(name, names) or f"it has {_listed(names)}"
        self._doc.find("unknown-name", path, f"the pipeline file has no {what} `{name}`", hint, key=key)

    def _expressions(self, step: Mapping[str, Any], path: Place) -> None:
        places = [((*path, "capture", name), text) for name, text in step.get("capture", {}).items()]
        for kind in KINDS:
            spec = step.get(kind)
            if isinstance(spec, dict) and isinstance(spec.get("where"), str):
                places.append(((*path, kind, "where"), spec["where"]))
        for place, text in places:
            end = text.rfind("}") + 1
            why = self._check(REFERENCE.sub("x", text[:end]) + text[end:])
            if why:
                self._doc.find("expression", place, f"no JMESPath expression: {why}", "see https://jmespath.org")


def _listed(names: Collection[str]) -> str:
    """Some of them; whoever has more looks at the file."""
    if len(names) > _MOST_LISTED:
        return f"{len(names)} others"
    return ", ".join(sorted(names)) or "none"
