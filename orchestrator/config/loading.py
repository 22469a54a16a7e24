"""Files to a pipeline: read, merge, interpolate, check, build."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from orchestrator.config.building import checked
from orchestrator.config.guarded import allowed_properties
from orchestrator.config.model import Pipeline, state_dir_of
from orchestrator.config.reading import Reach
from orchestrator.config.syntax import grammar
from orchestrator.config.syntax.document import Document
from orchestrator.config.syntax.interpolate import interpolate
from orchestrator.config.syntax.nodes import MapNode, Mark
from orchestrator.config.syntax.nodes import Path as Place
from orchestrator.config.syntax.overlay import merge
from orchestrator.config.syntax.parse import MAX_BYTES, parse
from orchestrator.config.syntax.values import plain
from orchestrator.records import Finding

_DESCRIPTORS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say: the pipeline, None when a finding is an error, and every finding by position."""

    pipeline: Pipeline | None
    findings: tuple[Finding, ...]
    _document: Document | None = field(default=None, repr=False, compare=False)

    def finding(
        self, code: str, path: Place, message: str, hint: str = "", severity: Literal["error", "warning"] = "error"
    ) -> Finding:
        """One more finding, placed at `path` of the document: for checks that the layers above make."""
        mark = Mark("pipeline.yaml") if self._document is None else self._document.mark(path)
        return Finding(severity, code, mark.file, mark.line, mark.column, message, hint)


def load(files: Sequence[Path], environ: Mapping[str, str]) -> Loaded:
    """Reads the pipeline file and its overlays, in order. Wrong content is a finding, never an exception.

    Paths in the document begin at the folder of the first file, those of `${file:…}` at the file that has them.
    """
    roots, findings = [], []
    for file in files:
        root, found = _read(file, environ)
        findings += found
        roots += [] if root is None else [root]
    if not roots or len(roots) < len(files):
        return Loaded(None, _sorted(findings, files))
    merged = roots[0]
    for root in roots[1:]:
        merged = merge(merged, root)
    merged, found = interpolate(merged, environ)
    findings += found
    tree = plain(merged, grammar.branches(grammar.schema()))
    doc = Document(tree, merged, str(files[0]), allowed=allowed_properties(environ))
    base = files[0].absolute().parent
    pipeline = checked(doc, base, reach=Reach.of(base, environ))
    if pipeline is not None:
        pipeline = replace(pipeline, state_dir=state_dir_of(base, environ))
    findings += _without_echoes(doc.findings, findings)
    failed = any(finding.severity == "error" for finding in findings)
    return Loaded(None if failed else pipeline, _sorted(findings, files), doc)


def schema_paths(texts: Sequence[bytes]) -> dict[str, str | None]:
    """The `schema` of every topic in a pipeline file and its overlays, None where a topic has none.

    Nothing else is looked at or replaced: this reads what an earlier version said. A text that is no pipeline file
    counts as empty.
    """
    roots = [root for text in texts if (root := parse(text, "earlier")[0]) is not None]
    if not roots:
        return {}
    merged = roots[0]
    for root in roots[1:]:
        merged = merge(merged, root)
    tree = plain(merged, grammar.branches(grammar.schema()))
    topics = tree.get("topics") if isinstance(tree, dict) else None
    found = topics if isinstance(topics, dict) else {}
    schemas = {str(name): own.get("schema") if isinstance(own, dict) else None for name, own in found.items()}
    return {name: schema if isinstance(schema, str) else None for name, schema in schemas.items()}


def _read(file: Path, environ: Mapping[str, str]) -> tuple[MapNode | None, list[Finding]]:
    try:
        raw = _reach(file, environ).read(file, MAX_BYTES)
    except OSError as error:
        reason = error.strerror or "unknown reason"
        hint = "`-f FILE` names another one" if isinstance(error, FileNotFoundError) else getattr(error, "hint", "")
        code = "too-large" if error.errno == errno.EFBIG else "missing-file"
        return None, [Finding("error", code, str(file), 0, 0, f"cannot be read: {reason}", hint)]
    return parse(raw, str(file))


def _reach(file: Path, environ: Mapping[str, str]) -> Reach:
    """The user chose the file, but whoever wrote the project chose what it is a link to."""
    folder = file.absolute().parent
    descriptor = folder in _DESCRIPTORS  # such as `-f /dev/stdin`: opened by the user, wherever it is
    return Reach.of(Path(os.path.realpath(file)).parent if descriptor else folder, environ)


def _without_echoes(findings: Sequence[Finding], earlier: Sequence[Finding]) -> list[Finding]:
    """Without what a value that could not even be read brings with it, such as an undefined name's empty text."""
    known = {(finding.file, finding.line, finding.column) for finding in earlier}
    return [found for found in findings if (found.file, found.line, found.column) not in known]


def _sorted(findings: Sequence[Finding], files: Sequence[Path]) -> tuple[Finding, ...]:
    """By file as given, then by position; each finding once (an alias is read at every use)."""
    order = {str(file): index for index, file in enumerate(files)}
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda f: (order.get(f.file, 0), f.line, f.column, f.code, f.message)))
