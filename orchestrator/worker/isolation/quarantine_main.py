"""Runs events one at a time for a worker that does not run them itself, since they may kill or hang it.

Started by `python -m orchestrator.worker.isolation.quarantine_main`.

Lines on fd 3, answers on fd 4 (`worker/runners/child_program.py`). Each line is a pickle in base64. The first is
the handler and its folder, answered with `ready` or `failed MESSAGE`; every other one is a `Question`, answered with a
pickled list of `Emit` or `Failed`. No file but the handler's code is read.
Both ends are the same code and the same trust: it is the worker's own child.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.errors import KpipeError
from orchestrator.event import Emit, Event, Letter
from orchestrator.records import Record
from orchestrator.worker.isolation.memory import confine
from orchestrator.worker.runners.child_program import IN_FD, OUT_FD
from orchestrator.worker.runners.python import PythonHandler, load_python


class Question(NamedTuple):
    """An event, as its parts: what `Event` is made of."""

    record: Record
    value: Any
    topic: str
    id: str | None
    attempt: int
    deadline: float | None
    letter: Letter | None


def beginning(handler: Handler, base: Path) -> bytes:
    """The first line, with its newline."""
    return base64.b64encode(pickle.dumps((handler, base))) + b"\n"


def question_of(event: Event) -> bytes:
    """One line, with its newline."""
    asked = Question(event._record, event.value, event.topic, event.id, event.attempt, event.deadline, event.letter)
    return base64.b64encode(pickle.dumps(asked)) + b"\n"


def answer_of(line: bytes) -> list[Emit] | Failed:
    """What the other end said. Raises ValueError for anything else."""
    try:
        answer = pickle.loads(base64.b64decode(line, validate=True))
    except Exception as e:
        raise ValueError(f"not an answer: {e}") from e
    if not isinstance(answer, list | Failed):
        raise ValueError(f"not an answer: {type(answer).__name__}")
    return answer


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    # The worker drains when it is told to end, and then ends this process as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(_own(IN_FD), "rb")
    replies = os.fdopen(_own(OUT_FD), "wb")
    handler, base = pickle.loads(base64.b64decode(requests.readline()))
    try:
        runner = _load(handler, base)
    except KpipeError as e:
        replies.write(f"failed {json.dumps(e.message)}\n".encode())
        return 1
    _say(replies, b"ready\n")
    for line in requests:
        asked = Question(*pickle.loads(base64.b64decode(line)))
        event = Event(
            asked.record, asked.value, topic=asked.topic, id=asked.id, attempt=asked.attempt, deadline=asked.deadline,
            letter=asked.letter,
        )  # fmt: skip
        _say(replies, base64.b64encode(_packed(runner.run(event))) + b"\n")
    return 0


def _load(handler: Handler, base: Path) -> PythonHandler:
    runner = load_python(handler, base)
    if handler.memory is not None:
        confine(handler.memory, handler.name)
    return runner


def _packed(answer: list[Emit] | Failed) -> bytes:
    try:
        return pickle.dumps(answer)
    except Exception as e:  # noqa: BLE001 - values are the handler's objects: their methods may raise anything
        return pickle.dumps(Failed("output", f"writing its value raised {type(e).__name__}: {e}", type(e).__name__))


def _say(replies: Any, line: bytes) -> None:
    replies.write(line)
    replies.flush()


def _own(name: str) -> int:
    """A pipe that is not for what the handler starts."""
    fd = int(os.environ.pop(name))
    os.set_inheritable(fd, False)
    return fd


if __name__ == "__main__":
    sys.exit(main())
