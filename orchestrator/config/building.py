"""A plain tree to a pipeline. Needs no YAML: workers get the tree from the process that read the files.

What travels is all of it: the merged tree with the values of `${NAME}` and `${file:…}` in it, and the schemas. The
process that gets it reads none of the files again: they may have changed, be half saved, or be gone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config.checks import check_meaning
from orchestrator.config.document import Document
from orchestrator.config.handlers import resolve_events, resolve_handlers
from orchestrator.config.model import KafkaSettings, Pipeline
from orchestrator.config.shape import check_shape
from orchestrator.config.topics import config_text, resolve_topics
from orchestrator.errors import FindingsError


def build(tree: Mapping[str, Any], base: Path, schemas: Mapping[str, Any] | None = None) -> Pipeline:
    """The pipeline of a merged, interpolated document (`Pipeline.tree`); `base` is where its paths begin.

    Reads no file. Raises FindingsError; its findings have no positions and show no values, since some may be secrets.
    """
    doc = Document(copy.deepcopy(dict(tree)), None, "pipeline.yaml")
    pipeline = checked(doc, base, read=False)
    if pipeline is None:
        raise FindingsError(doc.findings)
    return replace(pipeline, schemas=schemas)


def portable(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline as JSON values, for another process. They may hold secrets."""
    return {"tree": pipeline.tree, "base": str(pipeline.base), "schemas": pipeline.schemas}


def restored(document: Mapping[str, Any]) -> Pipeline:
    """The pipeline that `portable` was given. Raises FindingsError, and KeyError for another document."""
    return build(document["tree"], Path(document["base"]), document["schemas"])


def checked(doc: Document, base: Path, *, read: bool) -> Pipeline | None:
    """Checks all of the document, noting findings in it; the pipeline when none of them is an error.

    `read`: with the schemas and examples that it names.
    """
    check_shape(doc)
    check_meaning(doc, base, read=read)
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


def _kafka(section: Mapping[str, Any]) -> KafkaSettings:
    kinds = {
        kind: {key: config_text(value) for key, value in section.get(kind, {}).items()}
        for kind in ("client", "consumer", "producer", "admin")
    }
    return KafkaSettings(bootstrap=section.get("bootstrap", ""), **kinds)
