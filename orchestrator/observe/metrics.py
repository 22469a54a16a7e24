"""Every metric that kpipe has: name, kind, labels, meaning. docs/metrics.md has one row for each.

Names and kinds follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Upper bounds of the buckets of `kpipe_handler_seconds`; one more bucket takes what is above.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` are those besides `handler`, which every metric has. `of` says who counts it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    of: Literal["worker", "partition", "supervisor"] = "worker"


_PLACE = ("topic", "partition")

METRICS = (
    Metric("kpipe_records_total", "counter", "Events that came to their end", ("outcome",)),
    Metric("kpipe_attempts_total", "counter", "Runs of the handler, by what came of each", ("result",)),
    Metric("kpipe_handler_seconds", "histogram", "How long one run of the handler took"),
    Metric("kpipe_inflight", "gauge", "Events that were received and have not come to their end"),
    Metric("kpipe_paused", "gauge", "Partitions from which nothing is fetched for now", ("reason",)),
    Metric("kpipe_breaker_state", "gauge", "The circuit breaker: 0 closed, 1 half-open, 2 open"),
    Metric("kpipe_dlq_total", "counter", "Dead letters that Kafka has acknowledged", ("reason",)),
    Metric("kpipe_dlq_truncated_total", "counter", "Dead letters among them that were cut: too large for their DLQ"),
    Metric("kpipe_dlq_publish_failures_total", "counter", "Dead letters that Kafka did not take; they are sent again"),
    Metric("kpipe_dedup_hits_total", "counter", "Events skipped because their id was taken"),
    Metric("kpipe_dedup_evictions_total", "counter", "Ids forgotten before their window ended, for want of room"),
    Metric("kpipe_offsets_lost_total", "counter", "How often the offset to read next did not exist any more"),
    Metric("kpipe_partition_records_total", "counter", "Events that came to their end", _PLACE, "partition"),
    Metric("kpipe_lag", "gauge", "Events between the frontier and the end of the log", _PLACE, "partition"),
    Metric("kpipe_lag_seconds", "gauge", "Age of the oldest event that waits", _PLACE, "partition"),
    Metric("kpipe_frontier_lag", "gauge", "Events received since the oldest unsettled one", _PLACE, "partition"),
    Metric("kpipe_frontier_age_seconds", "gauge", "How long the frontier has stood still", _PLACE, "partition"),
    Metric("kpipe_handler_restarts_total", "counter", "Processes that were started again", ("cause",), "supervisor"),
    Metric("kpipe_handler_replicas", "gauge", "Processes of the handler that there are to be", (), "supervisor"),
    Metric("kpipe_handler_ready", "gauge", "Processes of the handler that are ready", (), "supervisor"),
)

BY_NAME = {metric.name: metric for metric in METRICS}
