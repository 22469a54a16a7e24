"""A worker notices when its own accounting does not add up."""

from __future__ import annotations

from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.partition import Partition
from orchestrator.delivery.tally import Tally
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments

TP = TopicPartition("t", 0)


def received(events: int) -> tuple[Assignments, Partition]:
    ledger = Assignments()
    part = Partition(TP, "t", Checkpoint(0), None)
    ledger.open(part, None)
    ledger.receive(Record("t", 0, n, 0, None, b"{}", ()) for n in range(events))
    return ledger, part


def test_what_waits_is_held_and_settles_adds_up() -> None:
    ledger, part = received(3)
    assert ledger.unbalanced() == {}
    record = part.fresh[0]
    assert ledger.dispatch(part, record.offset, run=True)
    part.fresh.popleft()
    assert ledger.unbalanced() == {}
    ledger.finish(part, [record], Tally(done=1), lambda frontier: frontier.release(record.offset))
    assert ledger.unbalanced() == {}
    assert ledger.totals() == (Tally(done=1), 2)


def test_an_event_that_got_lost_or_was_counted_twice_shows() -> None:
    ledger, part = received(3)
    record = part.fresh.popleft()
    assert ledger.unbalanced() == {TP: (0, 3, 2)}
    part.fresh.appendleft(record)
    part.settle([record], Tally(done=1))
    assert ledger.unbalanced() == {TP: (1, 2, 3)}


def test_while_events_run_nothing_is_said() -> None:
    ledger, part = received(3)
    assert ledger.begin(part)
    part.fresh.popleft()
    assert ledger.unbalanced() == {}
