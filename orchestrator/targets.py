"""The programs of kpipe's own that other parts of it start: each by `python -m MODULE`.

They stand here, and not where they are started, so that no import goes upwards hidden in a string.
"""

from __future__ import annotations

import sys
from enum import StrEnum


class Target(StrEnum):
    """A module that can be run as a program."""

    #: Runs the events of one replica of a handler.
    WORKER = "orchestrator.worker.entry"
    #: Runs single events for a worker that does not run them itself.
    QUARANTINE = "orchestrator.worker.isolation.quarantine_main"
    #: Publishes over HTTP for services.
    GATEWAY = "orchestrator.publish.gateway"
    #: The command line. Who starts it is told so by the command line itself.
    KPIPE = "orchestrator.cli"

    @property
    def argv(self) -> tuple[str, ...]:
        """With the Python that runs this."""
        return (sys.executable, "-m", self.value)
