"""Transactions in the simulation: kpipe's own, over a producer whose broker is scripted.

What the broker knows is in the `World`: the current epoch of each transactional id, and the group's generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.delivery.headers.lineage import source_of
from orchestrator.kafka.consumer import CommitRequest, Membership
from orchestrator.kafka.producer import OnReport, Parts, outgoing_of
from orchestrator.kafka.transactional_producer import TransactionError
from orchestrator.records import Outgoing
from orchestrator.worker.produce.barrier import Waiting
from orchestrator.worker.produce.transactional_barrier import TransactionalBarrier

if TYPE_CHECKING:
    from tests.support.simulation import World

#: What may become of a transaction: at its offsets, or at its commit, before the broker did it or after.
FATES = ("ok", "abort", "away", "timeout", "fenced", "unknown-void", "unknown-done", "late-abort")


def cause_of(out: Outgoing) -> tuple[int, int]:
    """Partition and offset of the event that caused a record."""
    letter = read_letter(out.headers)
    if letter is not None:
        return letter.partition, letter.offset
    source = source_of(out.headers)
    assert source is not None
    return source.place.partition, source.offset


class FakeTransactional:
    """One producer of a transactional id. What it did shows in the world when it is committed."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.epoch = 0
        self.outs: list[Outgoing] = []
        self.offsets: list[CommitRequest] = []
        self.fate = "ok"

    def init(self, go_on: Callable[[], bool]) -> None:
        self.world.epochs[self.name] = self.epoch = self.world.epochs.get(self.name, 0) + 1

    def begin(self) -> None:
        self.outs, self.offsets = [], []
        self.fate = self.world.fate()

    def post(self, out: Outgoing, on_report: OnReport, should_stop: object) -> None:
        self.world.meanwhile()
        failure = self.world.refusal(out, cause_of(out))
        if failure is not None:
            on_report(failure, None)
        self.outs.append(out)

    def post_parts(self, parts: Parts, on_report: OnReport, should_stop: object) -> None:
        self.post(outgoing_of(*parts), on_report, should_stop)

    def deliver(self, go_on: object, refused: object) -> None:
        self._check_epoch()

    def send_offsets(self, requests: Sequence[CommitRequest], member: Membership, go_on: object) -> None:
        self.world.meanwhile()
        self._check_epoch()
        if member.group != self.world.generation:
            raise TransactionError(KafkaError(KafkaError.ILLEGAL_GENERATION))
        if self.fate == "abort":
            raise TransactionError(KafkaError(KafkaError.UNKNOWN))
        if self.fate == "away":
            raise TransactionError(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE))
        self.offsets = list(requests)

    def commit(self, go_on: object) -> None:
        self._check_epoch()
        if self.fate in ("ok", "unknown-done"):
            self._apply()
        if self.fate.startswith("unknown"):
            raise TransactionError(KafkaError(KafkaError._FATAL, fatal=True))
        if self.fate == "late-abort":
            raise TransactionError(KafkaError(KafkaError._TIMED_OUT))
        self.world.meanwhile()

    def _apply(self) -> None:
        for out in self.outs:
            self.world.arrive(out)
        self.world.commit(self.offsets)

    def abort(self, go_on: object) -> None:
        self._check_epoch()

    def close(self, timeout: float) -> int:
        return 0

    def _check_epoch(self) -> None:
        if self.fate in ("timeout", "fenced") or self.epoch != self.world.epochs[self.name]:
            raise TransactionError(KafkaError(KafkaError.PRODUCER_FENCED, fatal=True))


class SimulatedTransactions(TransactionalBarrier):
    """Notes what comes to its end without a record, as the world cannot see that."""

    def __init__(self, world: World, name: str, *parts: Any, **more: Any) -> None:
        made: Any = lambda: FakeTransactional(world, name)  # noqa: E731
        super().__init__(made, *parts, **more)
        self.world = world

    def wait(self, waiting: Sequence[Waiting], stopping: Callable[[], bool]) -> Iterator[bool]:
        for batch, _ in waiting:
            speaking = {index for index, _, _ in batch.outs}
            for index, record in enumerate(batch.records):
                place = (record.partition, record.offset)
                if index in batch.skipped:
                    self.world.skipped.add(place)
                if index not in speaking:
                    self.world.silent.add(place)
        for (batch, _), ok in zip(waiting, super().wait(waiting, stopping), strict=True):
            speaking = {index for index, _, _ in batch.outs}
            failed = {batch.records[index].key for index in batch.failures}
            for index, record in enumerate(batch.records):
                if ok and index not in speaking and index not in batch.skipped and record.key not in failed:
                    self.world.completed.setdefault((record.partition, record.offset), "")
            yield ok
