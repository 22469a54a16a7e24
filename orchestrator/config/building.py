"""A plain tree to a pipeline. Needs no YAML: workers get the tree from the process that read the files.

What travels is all of it: the merged tree with the values of `${NAME}` and `${file:…}` in it, and the schemas. The
process that gets it reads none of the files again: they may have changed, be half saved, or be gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config.checks import check_meaning
from orchestrator.config.handlers import resolve_events, resolve_handlers
from orchestrator.config.model import KafkaSettings, Pipeline
from orchestrator.config.reading import Reach
from orchestrator.config.syntax.document import Document
from orchestrator.config.syntax.shape import check_shape
from orchestrator.config.topics import config_text, resolve_topics
from orchestrator.errors import FindingsError
from orchestrator.outside import Origin, origins_of


def build(
    tree: Mapping[str, Any],
    base: Path,
    schemas: Mapping[str, Any] | None = None,
    outside: Iterable[Origin] = (),
    state_dir: Path | None = None,
) -> Pipeline:
    """The pipeline of a merged, interpolated document (`Pipeline.tree`); `base` is where its paths begin.

    `state_dir` is `.kpipe` there unless given. `outside` are the origins of a tree that went through JSON.
    Reads no file.
    Raises FindingsError; its findings have no positions and show no values, since some may be secrets.
    """
    plain: dict[str, Any] = _plain(tree)
    doc = Document(plain, None, "pipeline.yaml")
    pipeline = checked(doc, base, origins=[*origins_of(tree), *outside])
    if pipeline is None:
        raise FindingsError(doc.findings)
    return replace(pipeline, schemas=schemas, state_dir=state_dir or pipeline.state_dir)


def portable(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline as JSON values, for another process. They may hold secrets."""
    return {
        "tree": pipeline.tree,
        "base": str(pipeline.base),
        "schemas": pipeline.schemas,
        "outside": list(origins_of(pipeline.tree)),
        "state_dir": str(pipeline.state_dir),
    }


def restored(document: Mapping[str, Any]) -> Pipeline:
    """The pipeline that `portable` was given. Raises FindingsError, and KeyError for another document."""
    # An `up` of an earlier version does not name the folder, when a service asks it.
    state_dir = Path(document["state_dir"]) if "state_dir" in document else None
    return build(document["tree"], Path(document["base"]), document["schemas"], document["outside"], state_dir)


def checked(
    doc: Document, base: Path, *, reach: Reach | None = None, origins: Iterable[Origin] = ()
) -> Pipeline | None:
    """Checks all of the document, noting findings in it; the pipeline when none of them is an error.

    With a `reach` also the schemas and examples that it names, which are read. `origins` name the texts from outside
    in a document without nodes.
    """
    check_shape(doc)
    doc.mark_outside(origins)
    check_meaning(doc, base, reach)
    if any(finding.severity == "error" for finding in doc.findings):
        return None
    tree = doc.tree
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


def _plain(value: Any) -> Any:
    """A copy of plain values in which no text is from outside."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value


def _kafka(section: Mapping[str, Any]) -> KafkaSettings:
    kinds = {
        kind: {key: config_text(value) for key, value in section.get(kind, {}).items()}
        for kind in ("client", "consumer", "producer", "admin")
    }
    return KafkaSettings(bootstrap=section.get("bootstrap", ""), **kinds)
