"""The path of an event that meets no trouble, from its bytes to what it causes: one loop, and no object that stays.

Rules:
- It takes only what is plainly good, and stops before the first event that is not: a tombstone, bytes that break the
  contract, an id that is taken. `Loop` then looks at that one in its own way.
- It decides nothing: an event whose run failed is handed back to be decided about.
- No step is left out for being fast. What is here is what `Attempts.run` does, and a change of one is one of the other.
- While a handler runs, the journal has its event and `Attempts.deadline` its time. They are cleared when the run of
  events ends, or has to wait for room to send, and not for each event: the next one overwrites them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.config.model import Handler
from orchestrator.contracts import Undecodable, decode_json
from orchestrator.delivery.dedup import event_id_of, key_of
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.pending import Pending
from orchestrator.event import Event
from orchestrator.observe.journal import Journal
from orchestrator.observe.meter import Meter
from orchestrator.observe.metrics import BOUNDS
from orchestrator.worker.batch import Batch
from orchestrator.worker.outputs import Outputs
from orchestrator.worker.receipts import Barrier
from orchestrator.worker.runner import Runner
from orchestrator.worker.source import Source

if TYPE_CHECKING:
    from orchestrator.worker.attempt import Attempts

#: Runs within it are counted together.
_QUICK = BOUNDS[0]


class HappyPath:
    """Runs fresh events of one partition one after the other, as long as all goes well."""

    def __init__(
        self,
        attempts: Attempts,
        handler: Handler,
        runner: Runner,
        outputs: Outputs,
        receipts: Barrier,
        journal: Journal,
        meter: Meter,
    ) -> None:
        self._attempts = attempts
        self._by = None if handler.dedup is None else handler.dedup.by
        self._timeout = handler.timeout
        self._runner = runner
        self._outputs = outputs
        self._receipts = receipts
        self._journal = journal
        self._meter = meter

    def run(self, source: Source, batch: Batch, most: int, seconds: float) -> tuple[Pending, Failed] | None:
        """Run up to `most` events from the head of the batch's partition, and start none after `seconds`.

        Those that end well leave `fresh` and are in `batch`. The one that is returned ran and failed: it is still at
        the head, and the batch's last.
        """
        part = batch.part
        batch.on_stall = self._at_rest
        failed: tuple[Pending, Failed] | None = None
        before, quick, spent = len(batch.records), 0, 0.0
        valid = None if source.contract is None else source.contract.is_valid
        by, topic, fresh, records, ids, dedup = self._by, source.topic, part.fresh, batch.records, batch.ids, part.dedup
        keys = batch.keys
        attempts, timeout, index = self._attempts, self._timeout, part.journal_index
        begin, run, took = self._journal.begin, self._runner.run, self._meter.took
        prepare, send, monotonic = self._outputs.prepare, self._receipts.send, time.monotonic
        now = monotonic()
        until = now + seconds
        # `Event.deadline` counts from 1970.
        epoch = None if timeout == float("inf") else time.time() - now + timeout
        while most and fresh and now < until and not part.draining:
            record = fresh[0]
            if record.value is None:
                break
            try:
                value = decode_json(record.value)
            except Undecodable:
                break
            if valid is not None and not valid(value):
                break
            event_id = None if by is None else event_id_of(value, by)
            if event_id is not None:
                if event_id in ids:
                    break
                if dedup is not None:
                    key = keys[event_id] = key_of(event_id)
                    if dedup.knows(key):
                        break
                ids[event_id] = record
            records.append(record)
            most -= 1
            known_as = event_id if event_id is None or type(event_id) is str else str(event_id)
            began = monotonic()
            event = Event(record, value, topic, known_as, 1, None if epoch is None else began + epoch)
            attempts.running = record
            attempts.deadline = deadline = began + timeout
            begin(index, record.offset, deadline)
            answer = run(event)
            now = monotonic()
            lasted = now - began
            if lasted <= _QUICK:
                quick += 1
                spent += lasted
            else:
                took(lasted)
            if isinstance(answer, Failed):
                attempts.check_memory(answer, record)
                failed = Pending(record, event_id), answer
                break
            if answer:
                outs = prepare(answer, record)
                if isinstance(outs, Failed):
                    failed = Pending(record, event_id), outs
                    break
                for out in outs:
                    send(out, batch)
            fresh.popleft()
        self._at_rest()
        batch.on_stall = None
        self._meter.quick(quick, spent)
        self._meter.ok += len(records) - before - (failed is not None)
        return failed

    def _at_rest(self) -> None:
        """No handler runs."""
        self._journal.end()
        self._attempts.deadline = 0.0
