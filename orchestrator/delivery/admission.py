"""How much a worker takes on before it asks Kafka to wait. DESIGN section 5, step 2.

In flight is what was received and is not settled. Over the high-water mark a partition is paused; at the low-water
mark it is resumed: two marks, so that a full partition does not flap. The worker's own limit on bytes pauses the
partitions that hold most of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.records import TopicPartition


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """High-water marks in flight; the low-water marks are half of them."""

    partition_events: int = 10_000
    partition_bytes: int = 32_000_000
    worker_bytes: int = 128_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What one partition has in flight."""

    events: int
    bytes: int


def paused_partitions(
    loads: Mapping[TopicPartition, Load], paused: frozenset[TopicPartition], limits: AdmissionLimits
) -> frozenset[TopicPartition]:
    """Which of the partitions in `loads` have to be paused now, given which ones are."""
    wanted = {tp for tp, load in loads.items() if _full(load, limits, 0.5 if tp in paused else 1.0)}
    total = sum(load.bytes for load in loads.values())
    mark = limits.worker_bytes * (0.5 if paused else 1.0)
    for tp, load in sorted(loads.items(), key=lambda item: -item[1].bytes):
        if total < mark or load.bytes == 0:
            break
        wanted.add(tp)
        total -= load.bytes
    return frozenset(wanted)


def _full(load: Load, limits: AdmissionLimits, share: float) -> bool:
    return load.events >= limits.partition_events * share or load.bytes >= limits.partition_bytes * share
