"""What a handler returned, as records to produce: declared, valid, keyed. DESIGN section 5, step 9."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from orchestrator.config.model import Handler, Pipeline, Topic
from orchestrator.contracts import Contract, outgoing
from orchestrator.delivery.lineage import stamp, stamped
from orchestrator.delivery.outcome import Failed
from orchestrator.errors import ContractError
from orchestrator.event import Emit
from orchestrator.records import Headers, Outgoing, Record


class Outputs:
    """Turns the emits of one handler into records."""

    def __init__(self, pipeline: Pipeline, handler: Handler, contracts: Mapping[str, Contract]) -> None:
        self._allowed: dict[str, tuple[Topic, Contract]] = {
            name: (pipeline.topics[name], contracts[name]) for name in handler.produces
        }
        self._group = handler.group

    def prepare(self, emits: Sequence[Emit], record: Record, attempt: int = 1) -> list[Outgoing] | Failed:
        """The records for `emits`, or why they may not be sent: then none of them is.

        Each tells by its headers that the run number `attempt` of `record` caused it.
        """
        prepared = []
        lineage: Headers = ()
        for emit in emits:
            topic: object = emit.topic
            found = self._allowed.get(topic) if isinstance(topic, str) else None
            if found is None:
                return _undeclared(emit.topic, self._allowed)
            wrong = _wrong_types(emit.key, emit.headers)
            if wrong:
                return Failed("output", f"{emit.topic}: {wrong}", "TypeError")
            try:
                out = outgoing(*found, emit.value, emit.key, emit.headers)
            except ContractError as e:
                return Failed("output", f"{emit.topic}: {e.message}", "ContractError", violations=e.violations)
            except Exception as e:  # noqa: BLE001 - values are the handler's objects: their methods may raise anything
                return Failed("output", f"{emit.topic}: writing its value raised {type(e).__name__}", type(e).__name__)
            # Not `_replace`: three times as slow, and every output comes by here.
            lineage = lineage or stamp(self._group, record, attempt, random.getrandbits(64))
            prepared.append(Outgoing(out.topic, out.key, out.value, stamped(out.headers, lineage)))
        return prepared


def _wrong_types(key: object, headers: object) -> str:
    """What is wrong with the key or the headers of an emit; "" when nothing is. Nobody checked the handler's types."""
    if not (key is None or isinstance(key, str | bytes)):
        return f"the key is a {type(key).__name__}; expected a string, bytes or None"
    if headers is None:
        return ""
    if not isinstance(headers, Mapping) and not _are_pairs(headers):
        return f"the headers are a {type(headers).__name__}; expected a mapping"
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        if not (isinstance(name, str) and isinstance(value, str | bytes)):
            return f"the header {name!r} is no string with a string or bytes"
        if not name.isprintable():
            return f"the header name {name!r} is not printable"
    return ""


def _are_pairs(headers: object) -> TypeGuard[Sequence[tuple[object, object]]]:
    return isinstance(headers, list | tuple) and all(isinstance(h, tuple) and len(h) == 2 for h in headers)


def _undeclared(topic: object, allowed: Mapping[str, object]) -> Failed:
    known = ", ".join(allowed) or "nothing"
    return Failed("output", f"the handler emitted to {topic!r}, but its `produces` lists {known}", "UndeclaredOutput")
