"""One event from its bytes to an outcome: judged by its contract, run, and given up if it must be."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from orchestrator.config.model import DedupPolicy, Handler
from orchestrator.contracts import Undecodable, decode_json
from orchestrator.delivery.backoff import delay_of
from orchestrator.delivery.dedup import event_id_of
from orchestrator.delivery.headers.dead_letters import CUTS, Death, Sender, read_letter, write_letter
from orchestrator.delivery.outcome import Bury, Failed, Park, Reason, decide
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.pending import EventId, Pending, known_as
from orchestrator.delivery.strikes import Strikes, after_solo
from orchestrator.event import Emit, Event
from orchestrator.kafka.producer import SendFailure
from orchestrator.observe.journal import Journal
from orchestrator.records import Record
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.engine.fast_path import FastPath
from orchestrator.worker.engine.flow_control import FlowControl
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.isolation.memory import release
from orchestrator.worker.isolation.quarantine import Quarantine
from orchestrator.worker.produce.barrier import Barrier, Post
from orchestrator.worker.produce.batch import Batch
from orchestrator.worker.produce.outputs import Outputs
from orchestrator.worker.runners.base import Runner

#: What makes an output's headers of the timestamp and the offset of the record that caused it.
HeadersOf = Callable[[int, int], dict[str, bytes]]


def judge(source: Input, record: Record) -> Any:
    """The event's value, or a `Failed` that says how it breaks its topic's contract.

    Tombstones and letters have no contract; a letter's value is None when it is not JSON. A redriven event keeps the
    contract of the topic that it comes from.
    """
    if source.origins is not None:
        source, event = source.at_origin(record)
        if source.origins is not None:
            said = "this handler consumes no topic that the event says it comes from"
            return Failed("decode", said, "NotRedriven", violations=(("$", said),))
        record = event
    if record.value is None:
        return None
    try:
        value = decode_json(record.value)
    except Undecodable as e:
        return None if source.is_dlq else Failed("decode", e.reason, "Undecodable", violations=(("$", e.reason),))
    if source.contract is None or source.contract.is_valid(value):
        return value
    violations = tuple((v.path, v.message) for v in source.contract.violations(value))
    what = "; ".join(f"{path}: {message}" for path, message in violations[:3])
    return Failed("schema", what, "ContractError", violations=violations)


def identify(source: Input, policy: DedupPolicy | None, record: Record, value: Any) -> EventId | None:
    """What dedup knows the event by; a letter is known by its own id, since its event's may be in several letters.

    A redriven event is known by nothing: its id is taken since it became a letter.
    """
    if policy is None or isinstance(value, Failed) or source.origins is not None:
        return None
    if source.is_dlq:
        letter = read_letter(record.headers)
        if letter is None or not letter.redrive_count:
            return None if letter is None else letter.id
        # It failed again after it was sent back: no copy of the letter before.
        return f"{letter.id}#{letter.redrive_count}"
    return event_id_of(value, policy.by)


class Attempts:
    """Runs events through one handler. `deadline` tells another thread when the running one should have ended."""

    def __init__(
        self,
        handler: Handler,
        runner: Runner,
        outputs: Outputs,
        receipts: Barrier,
        sender: Sender,
        facts: WorkerEvents,
        guard: FlowControl,
        quarantine: Quarantine,
        journal: Journal,
        ledger: Assignments,
    ) -> None:
        self._quarantine = quarantine
        self._journal = journal
        self._ledger = ledger
        self._handler = handler
        self._guard = guard
        self._runner = runner
        self._outputs = outputs
        self._receipts = receipts
        self._sender = sender
        self._facts = facts
        self._meter = facts.meter
        #: `time.monotonic()` by which the running event should have ended; 0.0 while none runs.
        self.deadline = 0.0
        #: The event that runs, for whoever finds it past its deadline.
        self.running: Record | None = None
        #: The event that wanted more memory than there is.
        self.starved: Record | None = None
        self.happy = FastPath(self, handler, runner, outputs, receipts, journal, facts.meter)

    @property
    def untroubled(self) -> bool:
        """Whether events may take the happy path now: none has to run apart, and a success would change nothing."""
        return not self._quarantine.wary and not self._guard.troubled

    def run(
        self, source: Input, record: Record, event_id: EventId | None, value: Any, attempt: int, batch: Batch
    ) -> Failed | None:
        """Run the handler here and now, and send what it caused; None when all went well so far."""
        event = self.event_of(source, record, event_id, value, attempt)
        part = batch.part
        began = time.monotonic()
        if self._quarantine.takes(part, record):
            answer = self.run_apart(part, event, record)
            self._meter.took(time.monotonic() - began)
            return self.conclude_apart(answer, record, batch, attempt)
        self.running = record
        self.deadline = deadline = began + self._handler.timeout
        self._journal.begin(part.journal_index, record.offset, deadline)
        answer = self._runner.run(event)
        if isinstance(answer, Failed):
            self.check_memory(answer, record)
        self._journal.end()
        self.deadline = 0.0
        self._meter.took(time.monotonic() - began)
        return self.conclude(answer, record, batch, attempt)

    def runs_apart(self, part: Partition, record: Record) -> bool:
        """Whether this event may not run in this process."""
        return self._quarantine.takes(part, record)

    def run_apart(self, part: Partition, event: Event, record: Record) -> list[Emit] | Failed:
        """Run it in quarantine, in the calling thread."""
        return self._quarantine.run(part, event, record)

    def suspect(self, part: Partition, pending: Pending, failed: Failed) -> None:
        """A process died while it had this event and others: from now on it runs alone."""
        pending.note_failure(failed, time.time())
        self._ledger.suspect(part, pending.record.offset, part.suspects.get(pending.record.offset, Strikes()))
        self._facts.died_beside(pending)

    def suspects_settled(self, part: Partition) -> None:
        """Events of `part` that were under suspicion have come to their end."""
        self._quarantine.settled(part)

    def note_start(self, part: Partition, record: Record, deadline: float) -> int:
        """One of several events at a time runs now, by the journal; what `note_end` is to be given."""
        return self._journal.begin_one(part.journal_index, record.offset, deadline)

    def note_end(self, slot: int) -> None:
        self._journal.end_one(slot)

    def event_of(self, source: Input, record: Record, event_id: EventId | None, value: Any, attempt: int) -> Event:
        """What the handler is given; of a redriven event, what it would have been given at its origin."""
        timeout = self._handler.timeout
        if source.origins is not None:
            source, record = source.at_origin(record)
            event_id = identify(source, self._handler.dedup, record, value)
        letter = read_letter(record.headers) if source.is_dlq else None
        until = None if timeout == float("inf") else time.time() + timeout
        id = known_as(event_id)
        return Event(record, value, topic=source.topic, id=id, attempt=attempt, deadline=until, letter=letter)

    def conclude(self, answer: list[Emit] | Failed, record: Record, batch: Batch, attempt: int) -> Failed | None:
        """Send what the handler's answer to this attempt asks for, on behalf of the record that `batch` added last."""
        if isinstance(answer, Failed):
            return answer
        if answer:
            outs = self._outputs.prepare(answer, record, attempt)
            if isinstance(outs, Failed):
                return outs
            for out in outs:
                self._receipts.send(out, batch)
        self._meter.ok += 1
        if self._guard.troubled:
            self._guard.answered()
        return None

    def conclude_plain(self, answer: list[Emit], post: Post, headers_of: HeadersOf, record: Record, index: int) -> bool:
        """`conclude` for the first answer to an event, if that asks for nothing or for one plain output.

        False: nothing was done, and `conclude` says what it is. `headers_of` makes an output's headers of the
        record's timestamp and offset; `index` is the record's in its batch.
        """
        if len(answer) > 1 or self._guard.troubled:
            return False
        if answer:
            out = self._outputs.quick(answer[0])
            if out is None:
                return False
            post(*out, headers_of(record.timestamp, record.offset), index)
        self._meter.ok += 1
        return True

    def conclude_apart(self, answer: list[Emit] | Failed, record: Record, batch: Batch, attempt: int) -> Failed | None:
        """The same for an event that ran in quarantine."""
        failed = self.conclude(answer, record, batch, attempt)
        if failed is None:
            self._quarantine.ended_well()
        return failed

    def check_memory(self, failed: Failed, record: Record) -> None:
        """Out of the memory that the handler may have: this process is not to be trusted any more, and is given up.

        Returns unless that is so; then the event stays in the journal, so that its next run has a process to itself.
        """
        if failed.error_type == "MemoryError" and self._handler.memory is not None:
            release()
            self.starved = record
            threading.Event().wait()

    def fail(self, source: Input, pending: Pending, failed: Failed, batch: Batch) -> Park | None:
        """A run failed: the wait before the next one, or None when the event was given up."""
        pending.note_failure(failed, time.time())
        self._meter.failed[failed.verdict] += 1
        if failed.verdict in ("unavailable", "timeout", "hang"):
            self._guard.failed(failed)
        elif failed.verdict != "crash" and self._guard.troubled:
            self._guard.answered()
        spent = pending.attempts + 1
        if failed.verdict in ("crash", "hang"):
            decision = self._strike(source, pending, failed, batch)
        else:
            if batch.part.suspects:
                self._ledger.solo_ended(batch.part, pending.record.offset)
            decision = decide(
                failed,
                spent,
                pending.waits,
                self._handler.retry,
                is_letter=source.is_dlq,
                chance=random.random(),
                spared=self._guard.state != "closed",
            )
        if isinstance(decision, Bury) and decision.reason in ("exhausted", "rejected", "crash"):
            decision = decision if self._guard.may_give_up() else Park(self._guard.patience(), spend=False)
        if isinstance(decision, Park):
            pending.attempts = spent if decision.spend else pending.attempts
            pending.waits = 0 if decision.spend else pending.waits + 1
            if failed.verdict not in ("crash", "hang") or decision.stalled:
                self._facts.parked(pending, decision)
            return decision
        # Runs that were waited out are runs all the same, where it is their number that condemns.
        pending.attempts = spent + (pending.waits if failed.verdict in ("crash", "hang") else 0)
        self._give_up(source, pending, decision.reason)
        self.send_letter(source, pending, batch)
        return None

    def _strike(self, source: Input, pending: Pending, failed: Failed, batch: Batch) -> Park | Bury:
        """Its process died of it, or hung: count that, and say what follows."""
        part, offset = batch.part, pending.record.offset
        held, decision = after_solo(
            part.suspects.get(offset, Strikes()),
            failed,
            pending.waits,
            self._handler.strikes,
            self._handler.retry,
            evidence=self._guard.done > pending.seen,
            is_letter=source.is_dlq,
            chance=random.random(),
        )
        pending.seen = self._guard.done
        self._ledger.suspect(part, offset, held)
        self._facts.struck(pending, held)
        return decision

    def bury_broken(self, source: Input, pending: Pending, failed: Failed, batch: Batch) -> None:
        """The event breaks its topic's contract: one handler of the pipeline writes the letter, the others skip."""
        if not source.writes_contract_letters:
            batch.mark_skipped()
            return
        pending.note_failure(failed, time.time())
        pending.attempts = 1
        self._give_up(source, pending, "decode" if failed.verdict == "decode" else "schema")
        self.send_letter(source, pending, batch)

    def send_letter(self, source: Input, pending: Pending, batch: Batch) -> None:
        """Send the letter of the record that `batch` added last; where none can be written, that record is skipped."""
        reason, failed = pending.buried, pending.failed
        if reason is None or failed is None:
            raise ValueError(f"{pending.record.offset} was not given up")
        origin, record = source.at_origin(pending.record)
        dlq = origin.dlq_for(reason)
        if dlq is None or pending.cuts > len(CUTS):
            batch.mark_skipped()
            return
        batch.mark_buried(pending)
        death = Death(
            reason=reason,
            failed=failed,
            attempts=pending.attempts,
            first_failed=pending.first_failed,
            last_failed=pending.last_failed,
            event_id=self._event_id(source, origin, pending),
            exit=failed.exit,
        )
        cut = CUTS[pending.cuts - 1] if pending.cuts else None
        letter = write_letter(record, self._sender, death, dlq.name, dlq.partitions, cut)

        def told(failure: SendFailure | None) -> None:
            if failure is None:
                self._meter.letters[reason] += 1
                self._meter.letters_cut += cut is not None
            else:
                self._meter.letters_refused += not failure.purged

        self._receipts.send(letter, batch, told)

    def _event_id(self, source: Input, origin: Input, pending: Pending) -> EventId | None:
        if source.origins is None:
            return pending.event_id
        return identify(origin, self._handler.dedup, pending.record, judge(source, pending.record))

    def note_send_failure(self, source: Input, pending: Pending, failure: SendFailure, batch: Batch) -> float:
        """An output or a letter was refused; returns the seconds until the event may run again.

        Only a record that can never be written is its event's own fault, and that is known only of an event that
        ran alone: a broker that finds a produce request too large refuses every record in it (librdkafka does not
        split requests as the Java client does). Before that counts, it is sent once more, better compressed.
        A letter that is too large is cut; one that is refused for any other reason stalls its lane. An event that is
        a letter itself is never given up.
        """
        lone = len(batch.records) == 1
        if lone and failure.too_large and self._receipts.squeeze():
            self._facts.squeezed(pending, failure)
            return 0.0
        if failure.too_large and pending.buried is not None and lone:
            self._cut(source, pending, failure)
            return 0.0
        if failure.permanent and pending.buried is None and lone and not source.is_dlq:
            pending.note_failure(Failed("output", f"Kafka refused it: {failure.message}", failure.code), time.time())
            pending.attempts += 1
            self._give_up(source, pending, "output")
            return 0.0
        if not lone and (failure.too_large or (pending.buried is None and (failure.permanent or failure.suspect))):
            pending.alone = True
            if not failure.suspect:  # of that the transaction has told, once for all its events
                self._facts.refused_together(failure)
        elif not failure.suspect:
            self._facts.send_failed(pending, failure)
        pending.waits += 1
        retry = self._handler.retry
        return delay_of(pending.waits, retry.backoff, retry.max_backoff, random.random())

    def _give_up(self, source: Input, pending: Pending, reason: Reason) -> None:
        """The event has failed for good: what is missing is its letter."""
        pending.buried = reason
        dlq = source.at_origin(pending.record)[0].dlq_for(reason)
        self._facts.gave_up(pending, None if dlq is None else dlq.name)

    def _cut(self, source: Input, pending: Pending, failure: SendFailure) -> None:
        """The letter, sent alone, is larger than its DLQ takes: the next one is shorter. The record is kept whole."""
        origin, record = source.at_origin(pending.record)
        dlq = None if pending.buried is None else origin.dlq_for(pending.buried)
        name = "" if dlq is None else dlq.name
        pending.cuts += 1
        if pending.cuts == 1:
            self._facts.cut(pending, record, name, failure)
        elif pending.cuts > len(CUTS):
            self._facts.left_out(pending, name)

    def close(self) -> None:
        self._quarantine.close()
        self._runner.close()
