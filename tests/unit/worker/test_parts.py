"""Parts of the worker at their edges: a full status pipe, an ended epoch, lost offsets, odd bytes from Kafka."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message

from orchestrator.delivery.offsets.checkpoint import Checkpoint, read_checkpoint
from orchestrator.delivery.partition import Partition, size_of
from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.consumer import GroupConsumer, OffsetLost, Polled, _sort_error
from orchestrator.kafka.producer import SendFailure
from orchestrator.records import Outgoing, Record, TopicPartition
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.isolation.memory import collect_seldom
from orchestrator.worker.produce.barrier import ProducerBarrier, SettlementPlan, Waiting
from orchestrator.worker.produce.batch import Batch
from orchestrator.worker.status import StatusPipe
from tests.support.simulation import Life, World

TP = TopicPartition("in", 0)


def record(offset: int, **more: Any) -> Record:
    return Record("in", 0, offset, 1_000, b"k", b"{}", ())._replace(**more)


def test_a_status_pipe_that_was_full_is_used_again() -> None:
    read, write = os.pipe()
    report = StatusPipe(write)
    while True:
        try:
            os.write(write, b"x" * 512)
        except BlockingIOError:
            break
    report.not_ready()
    os.read(read, 1_000_000)
    report.status({"in": 1}, 0, 0, "closed", None)
    said = [json.loads(line) for line in os.read(read, 65_536).splitlines()]
    assert [s["type"] for s in said] == ["not-ready", "status"]


def test_a_line_of_status_fits_into_the_pipe_whole() -> None:
    read, write = os.pipe()
    report = StatusPipe(write)
    report.status({"in": 1}, 0, 0, "closed", "\N{PILE OF POO}" * 500)
    report.failed_to_start("\N{PILE OF POO}" * 5_000, "\N{PILE OF POO}" * 5_000)
    lines = os.read(read, 65_536).splitlines(keepends=True)
    assert all(len(line) <= 4_096 and json.loads(line) for line in lines) and len(lines) == 2


def test_what_a_handler_answers_after_its_epoch_is_not_sent() -> None:
    receipts = ProducerBarrier({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}, WorkerEvents())
    part = Partition(TP, "in", Checkpoint(0), None)
    batch = Batch(part)
    batch.add(record(0))
    part.ended = True
    receipts.send(Outgoing("out", None, b"late"), batch)
    assert batch.sent == 0 and receipts._producer.flush(0) == 0


def test_at_a_barrier_that_one_epoch_does_not_outlive_the_other_batch_runs_again() -> None:
    receipts = ProducerBarrier({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}, WorkerEvents())
    gone, kept, quiet = (Batch(Partition(TP._replace(partition=n), "in", Checkpoint(0), None)) for n in range(3))
    for batch in (gone, kept, quiet):
        batch.add(record(0))
    for batch in (gone, kept):
        receipts.send(Outgoing("out", None, b"queued"), batch)
    gone.part.ended = True
    plan = SettlementPlan((), Checkpoint(0))
    waiting = [Waiting(batch, lambda: plan) for batch in (gone, kept, quiet)]
    assert receipts.wait(waiting, lambda: False) == [False, True, True]
    assert kept.failures[0].purged and not quiet.failures
    receipts.send(Outgoing("out", None, b"queued"), kept)
    assert receipts.wait(waiting[1:], lambda: True) == [False, True]


def waiting(batch: Batch) -> list[Waiting]:
    return [Waiting(batch, lambda: pytest.fail("nothing to plan"))]


def test_a_record_that_is_not_written_is_the_failure_of_its_own_event() -> None:
    unreachable = {"bootstrap.servers": "127.0.0.1:1", "log_level": "0", "message.timeout.ms": 50}
    receipts = ProducerBarrier(unreachable, WorkerEvents())
    for failing in (0, 2):  # one turn after the other, two batches in each
        batches = [Batch(Partition(TP, "in", Checkpoint(0), None)) for _ in range(2)]
        for of, batch in enumerate(batches):
            post = receipts.poster(batch, 3)
            for index in range(3):
                batch.add(record(index))
                if index == failing - of:
                    post("out", "k", b"v", [], index)
        assert receipts.wait([*waiting(batches[0]), *waiting(batches[1])], lambda: False) == [True, True]
        failed = [{i: f.code for i, f in batch.failures.items()} for batch in batches]
        assert failed == [{failing: "_MSG_TIMED_OUT"}, {failing - 1: "_MSG_TIMED_OUT"} if failing else {}]
    assert len(receipts._spare) == 2, "lent again and again"


def test_what_is_reported_late_is_not_about_the_next_batch() -> None:
    receipts = ProducerBarrier({"bootstrap.servers": "127.0.0.1:1", "log_level": "0"}, WorkerEvents())
    first, second = (Batch(Partition(TP, "in", Checkpoint(0), None)) for _ in range(2))
    first.add(record(0))
    receipts.poster(first, 1)("out", None, b"v", [], 0)
    late = receipts._lent[first].of(first, 1)[0]
    assert receipts.wait(waiting(first), lambda: True) == [False]
    first.failures.clear()
    second.add(record(0))
    receipts.poster(second, 1)("out", None, b"v", [], 0)
    late(SendFailure("_MSG_TIMED_OUT", "late"), None)
    assert first.failures and not second.failures
    receipts.close(0)


class Seeking:
    """A consumer whose log begins at `low` and ends at `high`."""

    def __init__(self, low: int, high: int) -> None:
        self.ends = (low, high)
        self.sought: list[int] = []

    def ends_of(self, tp: TopicPartition) -> tuple[int, int]:
        return self.ends

    def epochs(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {}

    def go_on_at(self, tp: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


@pytest.mark.parametrize(("low", "high", "kept"), [(100, 200, 3), (0, 2, 0)])
def test_what_arrived_before_retention_passed_still_runs(low: int, high: int, kept: int) -> None:
    world = World()
    for key in "abc":
        world.append(0, key, None)
    life = Life(world)
    life.assign(0)
    life.deliver(0, 3)
    consumer: Any = Seeking(low, high)
    life.intake._consumer = consumer
    life.intake._offset_lost(OffsetLost(TP, "out of range"))
    assert consumer.sought == [low]
    life.loop.turn()
    assert len(world.acknowledged) == kept


def test_headers_count_as_memory() -> None:
    assert size_of(record(0, headers=(("a", b"x" * 1_000_000),))) > 1_000_000


def test_foreign_metadata_never_raises() -> None:
    assert read_checkpoint(5, '{"v": 1, "s": "", "n": [1e999, 0, 0]}') == Checkpoint(5)


def message(offset: int = 7, error: KafkaError | None = None) -> Message:
    """As confluent-kafka gives it."""
    return Message(topic="in", partition=0, offset=offset, timestamp=(1, 5), value=b"{}", error=error)


def test_what_a_poll_brings_is_sorted() -> None:
    end = message(9, KafkaError(KafkaError._PARTITION_EOF))
    headed = Message(topic="in", partition=0, offset=8, timestamp=(0, -1), key=b"k", headers=[("a", b"1")])

    class Reading:
        def poll(self, timeout: float) -> Message:
            return message()

        def consume(self, most: int, timeout: float) -> list[Message]:
            return [headed, end]

    consumer = GroupConsumer.__new__(GroupConsumer)
    consumer._rd = Reading()  # type: ignore[assignment]
    consumer._optional, consumer._group, consumer._properties = frozenset(), "g", {}
    polled = consumer.poll(10, 0)
    assert polled.records == [
        Record("in", 0, 7, 5, None, b"{}", ()), Record("in", 0, 8, -1, b"k", None, (("a", b"1"),))
    ]  # fmt: skip
    assert all(type(record) is Record for record in polled.records)
    assert polled.ends == [(TP, 9)]


def test_garbage_is_looked_for_seldom_unless_the_handler_chose() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(5, 6, 7)
        collect_seldom((1, 2, 3))
        assert gc.get_threshold() == (5, 6, 7) and not gc.get_freeze_count()
        collect_seldom((5, 6, 7))
        assert gc.get_threshold()[0] > 5 and gc.get_threshold()[1:] == (6, 7) and gc.get_freeze_count()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_a_consumer_that_failed_for_good_ends_the_worker() -> None:
    with pytest.raises(BrokerError, match="for good"):
        _sort_error(message(7, KafkaError(KafkaError._FATAL, "fenced", True)), Polled([], [], [], []), "g", {})


def test_a_consumer_that_is_refused_ends_the_worker_and_names_the_permission() -> None:
    refused = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(ForbiddenError, match="READ on the group g"):
        _sort_error(message(7, refused), Polled([], [], [], []), "g", {})
    refused = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(ForbiddenError, match="READ on the topic in"):
        _sort_error(message(7, refused), Polled([], [], [], []), "g", {})
