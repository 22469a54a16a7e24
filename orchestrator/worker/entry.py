"""`python -m orchestrator.worker.entry`: one worker process, from its configuration to its exit code.

Configuration: one JSON document on the pipe that `KPIPE_CONFIG_FD` names: the pipeline with its schemas, as `kpipe up`
has checked them. Of the files that they name only the handler's code is read here. Exit codes: 0 after an orderly stop,
78 when it could not start (never retried), 75 when a handler did not return and could not be cancelled, 76 when it used
more memory than it may, 77 when one of its topics was made anew (it is started again at once), 1 for anything else.
The main thread polls Kafka; a second one runs the handler.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from orchestrator.errors import EXIT_COULD_NOT_START, FindingsError, KpipeError
from orchestrator.kafka.clients import LIBRDKAFKA_LOG
from orchestrator.worker.assembly import assemble
from orchestrator.worker.configuration import inherited_pipe, read_config
from orchestrator.worker.events import QUIET_SECONDS
from orchestrator.worker.status import StatusPipe

log = logging.getLogger("kpipe.worker")

#: What Python gets to end the process by itself (seconds).
FINALIZING_SECONDS = 1.0


def main() -> int:
    """Run one worker; returns its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    LIBRDKAFKA_LOG.addFilter(Calm())
    report = StatusPipe(inherited_pipe("KPIPE_STATUS_FD"))
    os.register_at_fork(after_in_child=report.let_go)
    try:
        worker = assemble(read_config(), report)
    except FindingsError as e:
        return _could_not_start(report, str(e), e.hint)
    except KpipeError as e:
        return _could_not_start(report, e.message, e.hint)
    signal.signal(signal.SIGTERM, worker.on_signal)
    signal.signal(signal.SIGINT, worker.on_signal)
    try:
        return worker.run()
    except KpipeError as e:
        log.error("the worker failed: %s%s", e.message, f" ({e.hint})" if e.hint else "")
        return 1
    finally:
        worker.close()


class Calm(logging.Filter):
    """Of librdkafka's lines, one of each facility in ten seconds: it reports every attempt to reconnect.

    None of GETPID: a producer id is asked for until a broker that just started can give one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        facility = record.getMessage().partition(" ")[0]
        if facility == "GETPID" or record.created - self._last.get(facility, 0.0) < QUIET_SECONDS:
            return False
        self._last[facility] = record.created
        return True


def _could_not_start(report: StatusPipe, message: str, hint: str) -> int:
    report.failed_to_start(message, hint)
    log.error("could not start: %s%s", message, f" ({hint})" if hint else "")
    return EXIT_COULD_NOT_START


def _end_within(seconds: float, code: int) -> None:
    """End the process even if a thread that a handler left behind (an executor's, say) keeps Python from ending it."""
    sys.stdout.flush()
    last = threading.Timer(seconds, os._exit, [code])
    last.daemon = True
    last.start()


if __name__ == "__main__":
    exit_code = 1
    try:
        exit_code = main()
    finally:
        _end_within(FINALIZING_SECONDS, exit_code)
    sys.exit(exit_code)
