"""Files to a pipeline: read, merge, interpolate, check, build."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import grammar
from orchestrator.config.checks import check_meaning
from orchestrator.config.document import Document
from orchestrator.config.handlers import resolve_events, resolve_handlers
from orchestrator.config.interpolate import interpolate
from orchestrator.config.model import KafkaSettings, Pipeline
from orchestrator.config.nodes import MapNode
from orchestrator.config.overlay import merge
from orchestrator.config.parse import parse
from orchestrator.config.shape import check_shape
from orchestrator.config.topics import config_text, resolve_topics
from orchestrator.config.values import plain
from orchestrator.errors import FindingsError
from orchestrator.records import Finding


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say: the pipeline, None when a finding is an error, and every finding by position."""

    pipeline: Pipeline | None
    findings: tuple[Finding, ...]


def load(files: Sequence[Path], environ: Mapping[str, str]) -> Loaded:
    """Reads the pipeline file and its overlays, in order. Wrong content is a finding, never an exception."""
    roots, findings = [], []
    for file in files:
        root, found = _read(file, environ)
        findings += found
        roots += [] if root is None else [root]
    if len(roots) < len(files):
        return Loaded(None, _sorted(findings, files))
    merged = roots[0]
    for root in roots[1:]:
        merged = merge(merged, root)
    doc = Document(plain(merged, grammar.branches(grammar.schema())), merged, str(files[0]))
    pipeline = _checked(doc, files[0].parent.resolve())
    taken = {(found.file, found.line, found.column) for found in findings}
    findings += [found for found in doc.findings if (found.file, found.line, found.column) not in taken]
    failed = any(finding.severity == "error" for finding in findings)
    return Loaded(None if failed else pipeline, _sorted(findings, files))


def build(tree: Mapping[str, Any], base: Path) -> Pipeline:
    """The pipeline of a merged, interpolated document (`Pipeline.tree`). Raises FindingsError, without positions."""
    doc = Document(copy.deepcopy(dict(tree)), None, "pipeline.yaml")
    pipeline = _checked(doc, base)
    if pipeline is None:
        raise FindingsError(doc.findings)
    return pipeline


def _read(file: Path, environ: Mapping[str, str]) -> tuple[MapNode | None, list[Finding]]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        hint = "`-f FILE` names another one" if isinstance(error, FileNotFoundError) else ""
        return None, [Finding("error", "missing-file", str(file), 0, 0, f"cannot be read: {reason}", hint)]
    root, findings = parse(raw, str(file))
    if root is None:
        return None, findings
    resolved, more = interpolate(root, environ, file.parent)
    return resolved, [*findings, *more]


def _checked(doc: Document, base: Path) -> Pipeline | None:
    check_shape(doc)
    check_meaning(doc, base)
    if any(finding.severity == "error" for finding in doc.findings):
        return None
    return _pipeline(doc.tree, base)


def _pipeline(tree: Mapping[str, Any], base: Path) -> Pipeline:
    return Pipeline(
        name=tree["pipeline"],
        namespace=tree.get("namespace", ""),
        base=base,
        kafka=_kafka(tree.get("kafka", {})),
        topics=resolve_topics(tree, base),
        events=resolve_events(tree, base),
        handlers=resolve_handlers(tree),
        tree=tree,
    )


def _kafka(section: Mapping[str, Any]) -> KafkaSettings:
    kinds = {
        kind: {key: config_text(value) for key, value in section.get(kind, {}).items()}
        for kind in ("client", "consumer", "producer", "admin")
    }
    return KafkaSettings(bootstrap=section.get("bootstrap", ""), **kinds)


def _sorted(findings: Sequence[Finding], files: Sequence[Path]) -> tuple[Finding, ...]:
    """By file as given, then by position; each finding once (an alias is read at every use)."""
    order = {str(file): index for index, file in enumerate(files)}
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda f: (order.get(f.file, 0), f.line, f.column, f.code, f.message)))
