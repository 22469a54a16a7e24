"""What a pipeline of the right shape can still get wrong: names, DLQs, handlers, files, Kafka, timings.

Every check reads the plain tree, counts what is missing or refused as not given, and notes findings. None changes
anything, and their order does not matter.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.config.checks import (
    access,
    dlqs,
    events,
    files,
    flow,
    handlers,
    kafka,
    kinds,
    names,
    services,
    timings,
    topics,
)
from orchestrator.config.checks.facts import gather
from orchestrator.config.reading import Reach
from orchestrator.config.syntax.document import Document


def check_meaning(doc: Document, base: Path, reach: Reach | None = None) -> None:
    """Notes every finding about what the document means; `base` is where the paths in it begin.

    With a `reach` the schemas and the examples are read and checked, too. Nothing else here looks at a file.
    """
    facts = gather(doc, base)
    for module in (names, topics, dlqs, events, handlers, kinds, services, kafka, access, timings, flow):
        module.check(facts)
    if reach is not None:
        files.check(facts, reach)
