"""The path of an event that meets no trouble, from its bytes to what it causes: one loop, and no object that stays.

Rules:
- It takes only what is plainly good, and stops before the first event that is not: a tombstone, bytes that break the
  contract, an id that is taken. `Loop` then looks at that one in its own way.
- It decides nothing: an event whose run failed is handed back to be decided about.
- No step is left out for being fast. What is here is what `Attempts.run` does, and a change of one is one of the other.
- While a handler runs, the journal has its event and `Attempts.deadline` its time. They are cleared when the run of
  events ends, or has to wait for room to send, and not for each event: the next one overwrites them.
- An answer that is one plain emit, as most are, becomes a record without an object in between (`Outputs.writers`,
  `Barrier.poster`). Every other goes the way of `Attempts.conclude`.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from orjson import loads

from orchestrator.config.model import Handler
from orchestrator.contracts import decode_json
from orchestrator.contracts.codec import SHALLOW
from orchestrator.delivery.dedup import first_of
from orchestrator.delivery.lineage import stamp, stamper
from orchestrator.delivery.outcome import Failed
from orchestrator.delivery.pending import Pending
from orchestrator.event import Emit, Event
from orchestrator.observe.journal import Journal
from orchestrator.observe.meter import Meter
from orchestrator.observe.metrics import BOUNDS
from orchestrator.records import Record
from orchestrator.worker.batch import Batch
from orchestrator.worker.outputs import Outputs
from orchestrator.worker.receipts import Barrier
from orchestrator.worker.runner import Runner
from orchestrator.worker.source import Source

if TYPE_CHECKING:
    from orchestrator.worker.attempt import Attempts

#: Runs within it are counted together.
_QUICK = BOUNDS[0]
new = object.__new__
chance = partial(random.getrandbits, 64)


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
        self._call, self._read, self._blame = _steps(runner)
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
        # What the loop needs at hand, so that it looks nothing up twice.
        by, topic, timeout = self._by, source.topic, self._timeout
        valid = None if source.contract is None else source.contract.check
        fresh, popleft, records, ids = part.fresh, part.fresh.popleft, batch.records, batch.ids
        tables, maybe_taken = () if part.dedup is None else part.dedup.tables(), False
        attempts, journal, index, meter = self._attempts, self._journal, part.journal_index, self._meter
        journal_deadline, journal_offset = journal.deadline, journal.offset
        call, read, blame = self._call, self._read, self._blame
        writers, post, monotonic = self._outputs.writers, self._receipts.poster(batch, most), time.monotonic
        group = self._outputs.group
        headers_of = stamper(group, part.tp.topic, part.tp.partition, chance())
        now = monotonic()
        until = now + seconds
        # `Event.deadline` counts from 1970.
        epoch = None if timeout == float("inf") else time.time() - now + timeout
        while most and fresh and now < until and not part.draining:
            record = fresh[0]
            _, _, offset, timestamp, _, raw, headers = record
            if raw is None:
                break
            try:
                value = loads(raw) if len(raw) <= SHALLOW else decode_json(raw)
                if not (valid is None or valid(value)):
                    break
            except ValueError:
                break
            known_as = event_id = value.get(by) if type(value) is dict else None
            if type(event_id) is str:
                first = hash(event_id) >> 3  # `first_of`
            elif type(event_id) is int:
                known_as, first = str(event_id), first_of(event_id)
            else:
                known_as = event_id = first = None
            for table in tables:
                if first in table:
                    maybe_taken = True
            if maybe_taken or event_id in ids:
                break
            if event_id is not None:
                ids[event_id] = record
            records.append(record)
            most -= 1
            began = monotonic()
            # Not `Event(…)`: that takes twice as long.
            event = new(Event)
            event._record = record
            event.value = value
            event.topic = topic
            event.id = known_as
            event.attempt = 1
            event.deadline = None if epoch is None else began + epoch
            event.letter = None
            attempts.running = record
            if attempts.deadline:
                journal_offset[0] = offset
                journal_deadline[0] = attempts.deadline = began + timeout
            else:
                attempts.deadline = began + timeout
                journal.begin(index, offset, attempts.deadline)
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
                meter.took(lasted)
            if type(answer) is Emit:
                try:
                    out = writers[answer.topic](answer)
                except Exception:  # noqa: BLE001 - the topic may be anything: hashing it may raise anything
                    out = None
                if out is not None:
                    to, key, written = out
                    stamped = list(stamp(group, record, 1, chance())) if headers else headers_of(timestamp, offset)
                    post(to, key, written, stamped)
                    popleft()
                    continue
                answer = [answer]
            if isinstance(answer, Failed):
                attempts.check_memory(answer, record)
                failed = Pending(record, event_id), answer
                break
            wrong = self._send(answer, record, batch)
            if wrong is not None:
                failed = Pending(record, event_id), wrong
                break
            popleft()
        self._at_rest()
        batch.on_stall = None
        self._meter.quick(quick, spent)
        self._meter.ok += len(records) - before - (failed is not None)
        return failed

    def _send(self, answer: list[Emit], record: Record, batch: Batch) -> Failed | None:
        """Send what an answer asks for that is not one plain emit; or why that may not be."""
        outs = self._outputs.prepare(answer, record) if answer else []
        if isinstance(outs, Failed):
            return outs
        for out in outs:
            self._receipts.send(out, batch)
        return None

    def _at_rest(self) -> None:
        """No handler runs."""
        self._journal.end()
        self._attempts.deadline = 0.0


def _steps(runner: Any) -> tuple[Any, Any, Any]:
    """How an event is run: what to call with it, what its answer says if that is no `Emit`, what an exception means.

    A runner that has the handler's function at hand gives that: a call less for each event.
    """
    if hasattr(runner, "function"):
        return runner.function, runner.read, runner.blame
    return runner.run, _as_it_is, _not_handled


def _as_it_is(answer: Any) -> Any:
    return answer


def _not_handled(error: BaseException) -> Failed:
    """`Runner.run` never raises: this is no handler's failure."""
    raise error
