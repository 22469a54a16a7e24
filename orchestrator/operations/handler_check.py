"""Whether a program keeps the protocol of `exec:` handlers, tried with events and without Kafka."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.operations.loading import Project
    from orchestrator.worker.runners.conformance import ConformanceFinding

_TOPIC = "events"


@dataclass(frozen=True, slots=True)
class CheckEvents:
    """What a program is asked about: `value` makes a fresh value for each event, as JSON; they are from `topic`."""

    value: Callable[[], bytes]
    topic: str


def events_named(project: Project, event: str) -> CheckEvents:
    """Events of the pipeline file, with fresh ids each time. Raises UsageError when the file has none of that name."""
    from orchestrator.contracts import encode_json
    from orchestrator.operations.send.drafts import drafts
    from orchestrator.text import did_you_mean

    pipeline = project.pipeline
    template = pipeline.events.get(event)
    if template is None:
        names = ", ".join(pipeline.events) or "none"
        raise UsageError(f"the file has no event `{event}`", did_you_mean(event, pipeline.events) or f"it has {names}")
    draft = next(iter(drafts(template, pipeline.base, None, (), allow_raw=False)))
    return CheckEvents(lambda: encode_json(draft.value()), template.topic)


def events_like(value: str) -> CheckEvents:
    """Events with always the same value: JSON, or `@FILE`. Raises UsageError."""
    from orchestrator.contracts import encode_json
    from orchestrator.operations.send.input import Documents

    document = next(iter(Documents(value, allow_raw=False).numbered()))[1]
    return CheckEvents(lambda: encode_json(document), _TOPIC)


def numbered_events() -> CheckEvents:
    """`{"id": "event-1"}` and so on."""
    numbers = count(1)
    return CheckEvents(lambda: b'{"id":"event-%d"}' % next(numbers), _TOPIC)


def check_handler(argv: Sequence[str], events: CheckEvents, timeout: float) -> Iterator[ConformanceFinding]:
    """Start the program as an `exec:` handler is started, once for each check, and judge what it does.

    `timeout` is in seconds, for each answer. Raises HandlerError when the program cannot be started.
    """
    from orchestrator.worker.runners.command import Command
    from orchestrator.worker.runners.conformance import Kit, can_start

    program = Command(tuple(argv), Path.cwd(), os.environ)
    can_start(program)
    yield from Kit(program, events.value, events.topic, timeout).run()
