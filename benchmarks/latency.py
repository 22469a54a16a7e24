"""From produce to visible output, at a steady rate: kpipe beside the hand-written loop that takes what is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.cluster import PARTITIONS, Cluster
from benchmarks.contest import START_SECONDS, WARM_UP, Contestant, Stage, kpipe, script
from benchmarks.project.workload import event

CONTESTANTS = (
    Contestant("kpipe", "kpipe", kpipe("kpipe")),
    Contestant("loop", "hand-written loop", script("loop.py", "prompt")),
)
RATES = (500, 5_000)
SECONDS = 5.0


class Latency(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float


def run(cluster: Cluster, folder: Path, contestant: Contestant, name: str, rate: int) -> Latency:
    with Stage(cluster, folder, contestant, name) as stage:
        cluster.fill(stage.source, WARM_UP, salt=1)
        with stage.start() as started:
            stage.wait(started, WARM_UP, START_SECONDS)
            return measure(cluster.bootstrap, stage.source, stage.target, rate)


def measure(bootstrap: str, source: str, target: str, rate: int) -> Latency:
    """`SECONDS` of events, `rate` of them a second; the first second is left out."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-latency", "enable.auto.commit": False})
    ends = [reader.get_watermark_offsets(TopicPartition(target, p), timeout=10)[1] for p in range(PARTITIONS)]
    reader.assign([TopicPartition(target, p, end) for p, end in enumerate(ends)])
    reader.poll(1.0)
    count = int(rate * SECONDS)
    sent: dict[bytes, float] = {}
    events = [event(number, 3) for number in range(count)]
    writer = threading.Thread(target=write, args=(bootstrap, source, rate, events, sent))
    writer.start()
    took = []
    deadline = time.monotonic() + SECONDS + 20
    while len(took) < count and time.monotonic() < deadline:
        message = reader.poll(0.1)
        if message is not None and message.error() is None and message.key() in sent:
            took.append((message.key(), time.perf_counter()))
    writer.join()
    reader.close()
    if len(took) < count:
        raise TimeoutError(f"{count - len(took)} of {count} events did not come through")
    skipped = min(sent.values()) + 1.0
    return _percentiles([at - sent[key] for key, at in took if sent[key] > skipped])


def write(bootstrap: str, topic: str, rate: int, events: Sequence[tuple[str, bytes]], sent: dict[bytes, float]) -> None:
    # A request for each of 5,000 events a second would keep the broker so busy that nothing else is measured.
    linger = 0 if rate <= 1_000 else 1
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": linger, "delivery.report.only.error": True})
    producer.list_topics(topic, 10)
    time.sleep(0.5)
    begun = time.perf_counter()
    for number, (key, value) in enumerate(events):
        while (ahead := begun + number / rate - time.perf_counter()) > 0:
            time.sleep(ahead)
        sent[key.encode()] = time.perf_counter()
        producer.produce(topic, value, key)
        producer.poll(0)
    producer.flush(10)


def _percentiles(seconds: Sequence[float]) -> Latency:
    ordered = sorted(1000 * one for one in seconds)
    return Latency(ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)])
