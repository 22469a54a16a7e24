"""What a worker is given: the pipeline, its handler, the cluster's address, its slot."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from orchestrator.config import restored
from orchestrator.config.model import Handler, Pipeline
from orchestrator.errors import HandlerError
from orchestrator.kafka.clients import Clients


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the supervisor sends."""

    pipeline: Pipeline
    handler: Handler
    bootstrap: str
    slot: int

    @property
    def clients(self) -> Clients:
        return Clients(self.pipeline.kafka, self.bootstrap)


def read_config() -> WorkerConfig:
    """The configuration from the inherited pipe. Raises HandlerError when there is none."""
    fd = inherited_pipe("KPIPE_CONFIG_FD")
    if fd is None:
        raise HandlerError("a worker is started by `kpipe up`", "KPIPE_CONFIG_FD is not set")
    with os.fdopen(fd, "rb") as pipe:
        raw = pipe.read()
    document: dict[str, Any] = json.loads(raw)
    pipeline = restored(document["pipeline"])
    bootstrap = pipeline.kafka.bootstrap or document["bootstrap"]
    return WorkerConfig(pipeline, pipeline.handlers[document["handler"]], bootstrap, int(document["slot"]))


def inherited_pipe(name: str) -> int | None:
    """The file descriptor that the variable `name` has, None when it is not set.

    What the handler starts does not inherit it: a program that lives on would hold it open.
    """
    number = os.environ.pop(name, "")
    if not number.isdigit():
        return None
    os.set_inheritable(int(number), False)
    return int(number)
