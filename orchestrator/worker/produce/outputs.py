"""What a handler returned, as records to produce: declared, valid, keyed. DESIGN section 5, step 9."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.config.model import Handler, Pipeline, Topic
from orchestrator.contracts import Contract
from orchestrator.contracts.outgoing import as_headers, encoded, writer
from orchestrator.delivery.headers.lineage import stamp, stamped
from orchestrator.delivery.outcome import Failed
from orchestrator.errors import ContractError
from orchestrator.event import Emit
from orchestrator.records import Headers, Outgoing, Record

#: See `writer`.
Writer = Callable[[Emit], tuple[str, str | None, bytes] | None]

_new: Any = tuple.__new__


class Outputs:
    """Turns the emits of one handler into records."""

    def __init__(self, pipeline: Pipeline, handler: Handler, contracts: Mapping[str, Contract]) -> None:
        self._allowed: dict[str, tuple[Topic, Contract]] = {
            name: (pipeline.topics[name], contracts[name]) for name in handler.produces
        }
        self.group = handler.group
        #: By the topic as the handler names it; for emits that are plainly good.
        self.writers: Mapping[str, Writer] = {
            name: writer(topic, contract) for name, (topic, contract) in self._allowed.items()
        }

    def quick(self, emit: Emit) -> tuple[str, str | None, bytes] | None:
        """Topic, key and value for an emit that is plainly good; None: `prepare` says what it is."""
        try:
            return self.writers[emit.topic](emit)
        except Exception:  # noqa: BLE001 - the topic may be anything: hashing it may raise anything
            return None

    def prepare(self, emits: Sequence[Emit], record: Record, attempt: int = 1) -> list[Outgoing] | Failed:
        """The records for `emits`, or why they may not be sent: then none of them is.

        Each tells by its headers that the run number `attempt` of `record` caused it.
        """
        prepared: list[Outgoing] = []
        lineage: Headers = ()
        for emit in emits:
            topic: object = emit.topic
            found = self._allowed.get(topic) if isinstance(topic, str) else None
            if found is None:
                return _undeclared(emit.topic, self._allowed)
            key, own = emit.key, emit.headers
            declared = found[0]
            try:
                chosen, raw = encoded(*found, emit.value, key)
                headers = as_headers(declared, own)
            except ContractError as e:
                return Failed("output", f"{emit.topic}: {e.message}", "ContractError", violations=e.violations)
            except Exception as e:  # noqa: BLE001 - values are the handler's objects: their methods may raise anything
                return Failed("output", f"{emit.topic}: writing its value raised {type(e).__name__}", type(e).__name__)
            lineage = lineage or stamp(self.group, record, attempt, random.getrandbits(64))
            # Not `Outgoing(…)`: that takes three times as long, and every output comes by here.
            all_headers = stamped(headers, lineage) if headers else lineage
            prepared.append(_new(Outgoing, (declared.kafka_name, chosen, raw, all_headers, None, None)))
        return prepared


def _undeclared(topic: object, allowed: Mapping[str, object]) -> Failed:
    known = ", ".join(allowed) or "nothing"
    return Failed("output", f"the handler emitted to {topic!r}, but its `produces` lists {known}", "UndeclaredOutput")
