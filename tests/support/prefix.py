"""Topics of one test on a cluster that others use too."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.kafka.admin.admin import ClusterAdmin


@contextmanager
def fresh_prefix(admin: ClusterAdmin) -> Iterator[str]:
    """A prefix for topic names; what has it is deleted at the end."""
    name = f"t{uuid.uuid4().hex[:10]}."
    try:
        yield name
    finally:
        admin.delete([topic for topic in admin.topic_names() if topic.startswith(name)])
