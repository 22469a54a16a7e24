"""The files of a running `kpipe up`, read again: for `--watch` and `kpipe restart`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.config import load
from orchestrator.config.model import Handler, Pipeline
from orchestrator.contracts import with_schemas
from orchestrator.errors import FindingsError, UsageError


def read_again(files: Sequence[Path], running: Pipeline) -> Pipeline:
    """The pipeline and its schemas as the files are now.

    Raises `FindingsError` when something in them is wrong, and `UsageError` for what cannot change while it runs.
    """
    loaded = load(files, os.environ)
    if loaded.pipeline is None:
        raise FindingsError(loaded.findings)
    new = with_schemas(loaded.pipeline)
    if (new.name, new.namespace, new.kafka) != (running.name, running.namespace, running.kafka):
        raise UsageError("pipeline, namespace and kafka stay as they are while it runs", "start `kpipe up` again")
    return new


def find_in_file(pipeline: Pipeline, name: str) -> Handler:
    """The handler of that name in files that were read again. Raises `UsageError` when it is gone from them."""
    if name not in pipeline.handlers:
        raise UsageError(
            f"the pipeline file declares no handler `{name}` any more", f"`kpipe scale {name}=0` stops what runs of it"
        )
    return pipeline.handlers[name]
