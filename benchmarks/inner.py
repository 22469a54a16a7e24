"""What an event costs in the thread that runs handlers, by itself: kpipe's loop and the bare work, without a broker.

    python -m benchmarks.inner [EVENTS]

Both write to a broker that librdkafka plays inside of this process; only this thread's processor time counts, and of
each thousand events the quickest and the middle one are told. Good for comparing two versions of the loop; what counts
in the end is `make bench`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from benchmarks.contest import PROJECT
from benchmarks.project.workload import authorize, event, validator
from orchestrator.config import load
from orchestrator.contracts import load_contracts
from orchestrator.delivery.dedup import Dedup
from orchestrator.delivery.headers.dead_letters import Sender
from orchestrator.delivery.offsets.checkpoint import Checkpoint
from orchestrator.delivery.partition import Partition
from orchestrator.event import Emit, Event
from orchestrator.observe.journal import Journal
from orchestrator.records import Record, TopicPartition
from orchestrator.worker.consume.assignments import Assignments
from orchestrator.worker.consume.inputs import sources_of
from orchestrator.worker.engine.attempts import Attempts
from orchestrator.worker.engine.flow_control import FlowControl
from orchestrator.worker.engine.serial import SerialEngine
from orchestrator.worker.events import WorkerEvents
from orchestrator.worker.isolation.quarantine import Quarantine
from orchestrator.worker.produce.barrier import ProducerBarrier
from orchestrator.worker.produce.outputs import Outputs
from orchestrator.worker.runners.python import PythonHandler

BATCH = 1_000
PRODUCER: dict[str, Any] = {
    "test.mock.num.brokers": 1,
    "bootstrap.servers": "played by librdkafka",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 5,
    "log_level": 3,
}


def records(events: int) -> Iterator[list[Record]]:
    """Batches as a consumer brings them."""
    for start in range(0, events, BATCH):
        yield [
            Record("orders", 0, n, 1_767_268_800_000 + n // 10, key.encode(), value, ())
            for n, (key, value) in enumerate((event(n, 2) for n in range(start, start + BATCH)), start)
        ]


class Kpipe:
    """The real loop with all its parts, and one partition."""

    def __init__(self, folder: Path) -> None:
        pipeline = load([PROJECT / "pipeline.yaml"], {}).pipeline
        if pipeline is None:
            raise SystemExit("the benchmark's pipeline.yaml does not hold")
        handler = pipeline.handlers["kpipe"]
        contracts = load_contracts(pipeline)
        sources = sources_of(pipeline, handler, contracts)
        self._ledger, facts = Assignments(), WorkerEvents()
        runner: Any = PythonHandler(handle, handler.timeout)
        self._receipts = ProducerBarrier(PRODUCER, facts)
        guard = FlowControl(handler, facts)
        unused: Any = None
        quarantine = Quarantine(unused, unused, wary=0)
        journal = Journal(folder, "inner.0")
        attempts = Attempts(
            handler, runner, Outputs(pipeline, handler, contracts), self._receipts,
            Sender(handler.group, pipeline.name, handler.name), facts, guard, quarantine, journal, self._ledger,
        )  # fmt: skip
        self._loop = SerialEngine(handler, sources, self._ledger, attempts, self._receipts, facts, guard)
        part = Partition(TopicPartition("orders", 0), "orders", Checkpoint(0), Dedup(window=600_000))
        part.journal_index = journal.index_of(part.tp)
        self._ledger.open(part, None)
        self.part = part

    def run(self, batch: list[Record]) -> float:
        self._ledger.receive(batch)
        before = time.thread_time()
        while self._loop.turn() and self.part.tally.done <= batch[-1].offset:
            pass
        took = time.thread_time() - before
        if self.part.tally.done != batch[-1].offset + 1:
            raise SystemExit(f"{self.part.tally} of {batch[-1].offset + 1}: this measures nothing")
        return took

    def close(self) -> None:
        self._receipts.close(1)


class Bare:
    """The work alone: what a loop written by hand does for these events."""

    def __init__(self) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(PRODUCER)
        self._valid_order = validator("order-created").is_valid
        self._valid_payment = validator("payment-authorized").is_valid

    def run(self, batch: list[Record]) -> float:
        before = time.thread_time()
        produce, valid_order, valid_payment = self._producer.produce, self._valid_order, self._valid_payment
        for record in batch:
            order = orjson.loads(record.value or b"")
            if not valid_order(order):
                raise SystemExit("not an order")
            payment = authorize(order)
            if not valid_payment(payment):
                raise SystemExit("not a payment")
            produce("payments", orjson.dumps(payment), payment["orderId"])
        self._producer.flush(30)
        return time.thread_time() - before

    def close(self) -> None:
        self._producer.flush(1)


def handle(event: Event) -> Emit:
    return Emit("payments", authorize(event.value))


def main(events: int) -> None:
    with TemporaryDirectory() as folder:
        contestants: dict[str, Any] = {"kpipe": Kpipe(Path(folder)), "bare": Bare()}
        time.sleep(1.0)  # the producers meet their broker
        took: dict[str, list[float]] = {name: [] for name in contestants}
        for batch in records(events):
            for name, one in contestants.items():
                fresh = [r._replace(value=bytes(bytearray(r.value or b""))) for r in batch]
                took[name].append(one.run(fresh) / len(batch))
        for name, times in took.items():
            sys.stdout.write(f"{name:6}{1e6 * min(times):7.2f} µs at best{1e6 * median(times):7.2f} in the middle\n")
        for one in contestants.values():
            one.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
