"""The path of an event that meets no trouble, from its bytes to what it causes: one loop, and no object that stays.

Rules:
- It takes only what is plainly good, and stops before the first event that is not: a tombstone, bytes that break the
  contract, an id that is taken. `SerialEngine` then looks at that one in its own way.
- It decides nothing: an event whose run failed is handed back to be decided about.
- No step is left out for being fast. What is here is what `Attempts.run` does, and a change of one is one of the other.
- While a handler runs, the journal has its event and `Attempts.deadline` its time. They are cleared when the run of
  events ends, or has to wait for room to send, and not for each event: the next one overwrites them.
- Up to a hundred events are looked at together before the first of them runs (`Lookahead`), and what they cause is sent
  together (`SendBuffer`): each step finds its code and data at hand. Handlers run one after the other, and whether an
  output may be sent is known before the next one runs.
- An answer that is one plain emit, as most are, becomes a record without an object in between (`Outputs.writers`,
  `Barrier.poster`). Every other goes the way of `Attempts.conclude`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.pending import EventId, Pending
from orchestrator.event import Emit, Event
from orchestrator.observe.journal import Journal
from orchestrator.observe.meter import Meter
from orchestrator.observe.metrics import BOUNDS
from orchestrator.records import Record
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.engine.lookahead import Lookahead
from orchestrator.worker.produce.barrier import Barrier
from orchestrator.worker.produce.batch import Batch
from orchestrator.worker.produce.outputs import Outputs
from orchestrator.worker.produce.send_buffer import SendBuffer
from orchestrator.worker.runners.base import Runner

if TYPE_CHECKING:
    from orchestrator.worker.engine.attempts import Attempts

#: Runs within it are counted together.
_QUICK = BOUNDS[0]
#: Outputs are sent together unless the first of them may be so old (seconds). No more than megabytes are written in it.
SEND_SECONDS = 0.002
#: After a run of `SLOW_SECONDS`, every output is sent at once for `HURRY_SECONDS`: it waits for no slow one behind it.
SLOW_SECONDS, HURRY_SECONDS = 0.02, 60.0
new = object.__new__


class FastPath:
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
        self._ahead = Lookahead(None if handler.dedup is None else handler.dedup.by)
        self._timeout = handler.timeout
        self._call, self._read, self._blame = _steps(runner)
        self._outputs = outputs
        self._receipts = receipts
        self._journal = journal
        self._meter = meter
        self._hurry_until = 0.0

    def run(self, source: Input, batch: Batch, most: int, seconds: float) -> tuple[Pending, Failed] | None:
        """Run up to `most` events from the head of the batch's partition, and start none after `seconds`.

        Those that end well leave `fresh` and are in `batch`. The one that is returned ran and failed: it is still at
        the head, and the batch's last.
        """
        part, ahead = batch.part, self._ahead
        batch.on_stall = self._at_rest
        valid = None if source.contract is None else source.contract.check
        tables = () if part.dedup is None else part.dedup.tables()
        outbox = SendBuffer(self._receipts.poster(batch, most), self._outputs.group, part.tp)
        before, until = len(batch.records), time.monotonic() + seconds
        failed: tuple[Pending, Failed] | None = None
        while most and part.fresh and not part.draining and time.monotonic() < until:
            records = ahead.take(part.fresh, most)
            values, event_ids = ahead.known(records, valid, tables, batch.ids)
            known = zip(records, values, event_ids, strict=False)
            failed, ran = self._run_known(source.topic, batch, known, until, outbox)
            outbox.empty()
            ahead.went(well=ran == len(records))
            if not values or failed is not None:
                break
            most -= ran
        self._at_rest()
        batch.on_stall = None
        self._meter.ok += len(batch.records) - before - (failed is not None)
        return failed

    def _run_known(
        self,
        topic: str,
        batch: Batch,
        known: Iterable[tuple[Record, Any, EventId | None]],
        until: float,
        outbox: SendBuffer,
    ) -> tuple[tuple[Pending, Failed] | None, int]:
        """Run these from the head of the partition, until one fails; that one, and how many ended well."""
        # All that the loop needs is at hand: it looks nothing up twice.
        part, records, ids, popleft = batch.part, batch.records, batch.ids, batch.part.fresh.popleft
        attempts, journal, index, timeout = self._attempts, self._journal, part.journal_index, self._timeout
        journal_deadline, journal_offset = journal.deadline, journal.offset
        call, read, blame, writers = self._call, self._read, self._blame, self._outputs.writers
        put, monotonic, started, quick, spent = outbox.put, time.monotonic, len(records), 0, 0.0
        at = started - 1
        failed: Failed | None = None
        now = monotonic()
        send_by = now if now < self._hurry_until else now + SEND_SECONDS
        # `Event.deadline` counts from 1970.
        epoch = None if timeout == float("inf") else time.time() - now + timeout
        for record, value, event_id in known:
            if now >= until or part.draining:
                break
            if event_id is not None:
                ids[event_id] = record
            records.append(record)
            at += 1
            began = monotonic()
            # Not `Event(…)`: that takes twice as long.
            event = new(Event)
            event._record = record
            event.value = value
            event.topic = topic
            event.id = event_id if event_id is None or type(event_id) is str else str(event_id)
            event.attempt = 1
            event.deadline = None if epoch is None else began + epoch
            event.letter = None
            attempts.running = record
            if attempts.deadline:
                journal_offset[0] = record.offset
                journal_deadline[0] = attempts.deadline = began + timeout
            else:
                attempts.deadline = began + timeout
                journal.begin(index, record.offset, attempts.deadline)
            try:
                answer = call(event)
                if type(answer) is not Emit:
                    answer = read(answer)
            except BaseException as e:  # noqa: BLE001 - the handler's failure is data here, reported by the letter or log
                answer = blame(e)
            now = monotonic()
            lasted = now - began
            if lasted <= _QUICK:
                quick += 1
                spent += lasted
            else:
                self._meter.took(lasted)
                if lasted > SLOW_SECONDS:
                    self._hurry_until = now + HURRY_SECONDS
            out = None
            if type(answer) is Emit:
                try:
                    out = writers[answer.topic](answer)
                except Exception:  # noqa: BLE001 - the topic may be anything: hashing it may raise anything
                    pass
            if out is None:
                failed = self._conclude(answer, record, batch, outbox)
                if failed is not None:
                    break
            else:
                put((out, record, at))
                if now >= send_by:
                    outbox.empty()
                    send_by = now if now < self._hurry_until else now + SEND_SECONDS
            popleft()
        self._meter.quick(quick, spent)
        if failed is None:
            return None, at + 1 - started
        return (Pending(record, event_id), failed), at - started

    def _conclude(self, answer: Any, record: Record, batch: Batch, outbox: SendBuffer) -> Failed | None:
        """Send what an answer asks for that is not one plain emit; or why that may not be."""
        if isinstance(answer, Failed):
            self._attempts.check_memory(answer, record)
            return answer
        outs = self._outputs.prepare([answer] if type(answer) is Emit else answer, record) if answer else []
        if isinstance(outs, Failed):
            return outs
        outbox.empty()  # what was put there comes first
        for out in outs:
            self._receipts.send(out, batch)
        return None

    def _at_rest(self) -> None:
        """No handler runs."""
        self._journal.end()
        self._attempts.deadline = 0.0


def _steps(runner: Runner) -> tuple[Any, Any, Any]:
    """How an event is run: what to call with it, what its answer says if that is no `Emit`, what an exception means.

    A runner that has the handler's function at hand gives that: a call less for each event.
    """
    if runner.inline is not None:
        return runner.inline
    return runner.run, _as_it_is, _not_handled


def _as_it_is(answer: Any) -> Any:
    return answer


def _not_handled(error: BaseException) -> Failed:
    """`Runner.run` never raises: this is no handler's failure."""
    raise error
