"""How transactions end: committed, aborted, or not known; and what a worker does then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.partition import Partition
from orchestrator.errors import BrokerError, ForbiddenError, UsageError
from orchestrator.kafka.consumer import Membership
from orchestrator.kafka.producer import Producer
from orchestrator.kafka.transactional_producer import (
    TransactionalProducer,
    TransactionError,
    WaitCancelled,
    transactional,
)
from orchestrator.records import Outgoing, Permission, Record, TopicPartition
from orchestrator.state import MARKER
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.produce.barrier import SettlementPlan, Waiting
from orchestrator.worker.produce.batch import Batch
from orchestrator.worker.produce.transactional_barrier import TransactionalBarrier
from orchestrator.worker.produce.transactional_id import instance_id
from orchestrator.worker.produce.transactor import Transactor


def error(code: int, *, fatal: bool = False) -> TransactionError:
    return TransactionError(KafkaError(code, "scripted", fatal=fatal))


FENCED = error(KafkaError.PRODUCER_FENCED, fatal=True)
ABORTABLE = error(KafkaError.COORDINATOR_NOT_AVAILABLE)


class Scripted:
    """A producer that fails at the steps it is told to; `calls` has what was asked of all of them."""

    calls: list[str]

    def __init__(self, calls: list[str], fails: dict[str, Exception]) -> None:
        self.calls, self.fails = calls, fails

    def __getattr__(self, step: str) -> Callable[..., int]:
        def take(*given: object) -> int:
            self.calls.append(step)
            problem = self.fails.pop(step, None)
            if problem is not None:
                raise problem
            return 0

        return take


def transactor(fails: dict[str, Exception], now: list[float] | None = None) -> tuple[Transactor, list[str]]:
    calls: list[str] = []
    made: Any = lambda: Scripted(calls, fails)  # noqa: E731
    return Transactor(made, lambda: (now or [0.0])[0]), calls


def run(one: Transactor) -> object:
    return one.run(lambda producer: producer.deliver(lambda: True), lambda: True)


def test_a_transaction_that_fails_is_aborted_and_the_producer_kept() -> None:
    one, calls = transactor({"deliver": ABORTABLE})
    assert run(one) is ABORTABLE
    assert run(one) is None
    assert calls == ["init", "begin", "deliver", "abort", "begin", "deliver", "commit"]


def test_a_finished_producer_is_replaced_and_the_new_one_ends_what_it_left() -> None:
    one, calls = transactor({"deliver": FENCED})
    assert run(one) is FENCED
    assert run(one) is None
    assert calls == ["init", "begin", "deliver", "close", "init", "begin", "deliver", "commit"]


def test_fenced_twice_in_a_minute_somebody_else_has_the_name() -> None:
    now = [0.0]
    fails: dict[str, Exception] = {"deliver": FENCED}
    one, _ = transactor(fails, now)
    run(one)
    now[0], fails["deliver"] = 61.0, FENCED
    assert run(one) is FENCED, "once a minute may be slowness"
    now[0], fails["deliver"] = 100.0, FENCED
    with pytest.raises(BrokerError, match="another worker uses"):
        run(one)


@pytest.mark.parametrize("fails", [{"commit": FENCED}, {"commit": ABORTABLE, "abort": FENCED}])
def test_an_end_that_is_not_known_ends_the_worker_and_nothing_more_is_committed(fails: dict[str, Exception]) -> None:
    one, calls = transactor(fails)
    with pytest.raises(BrokerError, match="not known"):
        run(one)
    before = list(calls)
    with pytest.raises(BrokerError, match="nothing any more"):
        run(one)
    assert calls == before


def test_a_commit_that_failed_and_was_aborted_is_known_to_be_void() -> None:
    one, calls = transactor({"commit": ABORTABLE})
    assert run(one) is ABORTABLE
    assert run(one) is None
    assert calls.count("init") == 1


def test_whoever_gives_up_leaves_the_transaction_to_the_next_producer() -> None:
    one, calls = transactor({"deliver": WaitCancelled()})
    with pytest.raises(WaitCancelled):
        run(one)
    assert run(one) is None
    assert calls == ["init", "begin", "deliver", "close", "init", "begin", "deliver", "commit"]


def test_a_client_without_the_right_is_told() -> None:
    one, calls = transactor({"init": ForbiddenError([Permission("WRITE", "transactional id", "shop.pay.0")])})
    with pytest.raises(ForbiddenError, match=r"WRITE on the transactional id shop\.pay\.0"):
        run(one)
    assert calls == ["init", "close"]


# Who commits a partition's offsets


def partition(ledger: Assignments) -> Partition:
    part = Partition(TopicPartition("t", 0), "t", Checkpoint(0), None)
    ledger.open(part, None)
    return part


def test_an_epoch_that_ends_waits_for_the_transaction_that_holds_it() -> None:
    ledger = Assignments()
    part = partition(ledger)
    assert ledger.enter(part)
    threading.Timer(0.05, ledger.leave, [part]).start()
    assert ledger.close([part.tp], 5.0) == {part.tp: Checkpoint(0)}
    assert not ledger.enter(part)


def test_an_offset_that_a_transaction_holds_is_committed_by_nobody_else() -> None:
    ledger = Assignments()
    part = partition(ledger)
    assert ledger.enter(part)
    assert ledger.enter_changed() == ({}, False)
    assert ledger.close([part.tp]) == {}


def test_what_changed_is_held_until_it_is_committed() -> None:
    ledger = Assignments()
    part = partition(ledger)
    changed, complete = ledger.enter_changed()
    assert (changed, complete) == ({part: Checkpoint(0)}, True)
    assert part.committing
    ledger.leave_changed(changed, ok=True)
    assert ledger.enter_changed() == ({}, True)


# What an abort says about events


class Refusing(Scripted):
    """Refuses the first records that it is given, by these codes."""

    def __init__(self, calls: list[str], codes: list[int]) -> None:
        super().__init__(calls, {})
        self.codes = codes

    def post(self, out: Outgoing, on_report: Any, should_stop: object) -> None:
        if self.codes:
            on_report(KafkaError(self.codes.pop(0)), None)


@pytest.mark.parametrize(
    ("code", "alone"),
    [(KafkaError._MSG_TIMED_OUT, False), (KafkaError.NOT_ENOUGH_REPLICAS, False), (KafkaError.UNKNOWN, True)],
)
def test_only_what_an_event_may_have_caused_makes_events_run_alone(code: int, alone: bool) -> None:
    calls: list[str] = []
    codes = [code] * 5
    ledger = Assignments()
    part = partition(ledger)
    made: Any = lambda: Refusing(calls, codes)  # noqa: E731
    transactions = TransactionalBarrier(
        made, lambda: Membership(None), ledger, WorkerEvents(), clock=lambda: 0.0, sleep=lambda _: None
    )
    transactions.open(lambda: False)
    batch = Batch(part)
    batch.records.append(Record("t", 0, 0, -1, None, b"{}", ()))
    transactions.send(Outgoing("out", None, b"{}"), batch)
    plan = SettlementPlan((), Checkpoint(1))
    assert list(transactions.wait([Waiting(batch, lambda: plan)], lambda: False)) == [True]
    assert [failure.suspect for failure in batch.failures.values()] == [True] * alone
    assert calls.count("commit") == (not alone)


# The producer underneath


def test_a_record_is_given_up_with_its_transaction_and_only_failures_are_reported() -> None:
    made = transactional({"transactional.id": "x", "message.timeout.ms": "0"})
    assert (made["message.timeout.ms"], made["transaction.timeout.ms"]) == ("10000", "10000")
    assert made["delivery.report.only.error"] is True
    given = transactional({"message.timeout.ms": "500", "transaction.timeout.ms": "60000"})
    assert (given["message.timeout.ms"], given["transaction.timeout.ms"]) == ("500", "60000")


@pytest.mark.parametrize("problem", [KafkaException(KafkaError(KafkaError._FATAL, fatal=True)), SystemError("lost")])
def test_a_fatal_error_is_noted_and_not_raised_out_of_a_wait(problem: Exception) -> None:
    class Rd:
        def flush(self, timeout: float) -> int:
            raise problem

        def __len__(self) -> int:
            return 3

    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"})
    producer._rd = Rd()  # type: ignore[assignment]
    assert producer.flush(1) == 3
    assert producer.fatal is not None and producer.fatal.fatal()


class Silent:
    """A client that forgot the request for offsets: its call does not return until `back` is set."""

    def __init__(self) -> None:
        self.back = threading.Event()

    def send_offsets_to_transaction(self, offsets: object, group: object) -> None:
        self.back.wait(10)
        raise KafkaException(KafkaError(KafkaError.PRODUCER_FENCED, "late"))

    def flush(self, timeout: float) -> int:
        return 0


def silent() -> tuple[TransactionalProducer, Silent]:
    producer, client = (
        TransactionalProducer({"bootstrap.servers": "127.0.0.1:1", "log_level": "0", "transactional.id": "x"}),
        Silent(),
    )
    producer._rd, producer._longest = client, 0.1  # type: ignore[assignment]
    return producer, client


def test_offsets_that_are_never_answered_finish_their_producer_and_nobody_waits_for_ever() -> None:
    producer, client = silent()
    with pytest.raises(TransactionError) as raised:
        producer.send_offsets([], Membership(None), lambda: True)
    assert raised.value.fatal and not raised.value.fenced
    assert producer.close(0) == 0
    client.back.set()


def test_whoever_stops_does_not_wait_for_offsets() -> None:
    producer, client = silent()
    with pytest.raises(WaitCancelled):
        producer.send_offsets([], Membership(None), lambda: False)
    client.back.set()
    producer.close(0)


def test_what_is_wrong_with_offsets_is_told() -> None:
    producer, client = silent()
    client.back.set()
    with pytest.raises(TransactionError) as raised:
        producer.send_offsets([], Membership(None), lambda: True)
    assert raised.value.fenced
    producer.close(0)


# The name


def test_the_name_of_this_installation(tmp_path: Path) -> None:
    assert instance_id({"KPIPE_INSTANCE": " pod-1 "}, tmp_path) == "pod-1"
    made = instance_id({}, tmp_path / ".kpipe")
    assert len(made) == 12 and instance_id({}, tmp_path / ".kpipe") == made
    assert {p.name for p in (tmp_path / ".kpipe").iterdir()} == {"instance", MARKER}
    with pytest.raises(UsageError, match="printable"):
        instance_id({"KPIPE_INSTANCE": "a\nb"}, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file, not a folder"):
        instance_id({}, tmp_path / "file")
