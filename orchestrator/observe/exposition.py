"""Metrics as text for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from orchestrator.observe.measured import Measured, OwnedPartition
from orchestrator.observe.metrics import BOUNDS, METRICS, Metric
from orchestrator.observe.totals import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Processes:
    """What is known of one handler: its totals, and what the processes that run say of themselves."""

    handler: str
    totals: Totals
    replicas: int
    ready: int
    running: Sequence[Measured]
    places: Sequence[OwnedPartition]


Sample = tuple[tuple[str, ...], float]


def exposition(handlers: Iterable[Processes]) -> str:
    """One page with the metrics of all handlers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(list(handlers)))
    return generate_latest(registry).decode()


class _Page:
    """What `prometheus_client` asks for the families of metrics."""

    def __init__(self, handlers: Sequence[Processes]) -> None:
        self._handlers = handlers

    def collect(self) -> Iterator[Any]:
        for metric in METRICS:
            labels = ("handler", *metric.labels)
            if metric.kind == "histogram":
                yield self._histogram(metric)
                continue
            family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
                metric.name, metric.help, labels=labels
            )
            for one in self._handlers:
                for values, number in _samples(metric, one):
                    family.add_metric([one.handler, *values], number)
            yield family

    def _histogram(self, metric: Metric) -> Any:
        family = HistogramMetricFamily(metric.name, metric.help, labels=("handler",))
        for one in self._handlers:
            if one.totals.counts:
                rising = accumulate(one.totals.buckets)
                bounds = (*map(str, BOUNDS), "+Inf")
                family.add_metric([one.handler], list(zip(bounds, rising, strict=True)), one.totals.seconds)
        return family


def _samples(metric: Metric, one: Processes) -> Iterator[Sample]:
    if metric.of == "supervisor":
        yield from _of_supervisor(metric.name, one)
    elif metric.of == "partition":
        yield from _of_partitions(metric.name, one)
    elif metric.kind == "counter":
        yield from _labelled(metric, one.totals.counts.get(metric.name, {}))
    else:
        # Of several breakers the one that is most open tells how the handler is; everything else adds up.
        join = max if metric.name == "kpipe_breaker_state" else sum
        told = [measured.gauges[metric.name] for measured in one.running if metric.name in measured.gauges]
        labels = dict.fromkeys(label for by_label in told for label in by_label)
        yield from _labelled(metric, {label: join(by.get(label, 0) for by in told) for label in labels})


def _labelled(metric: Metric, by_label: Mapping[str, float]) -> Iterator[Sample]:
    for label, number in by_label.items():
        yield (label,) if metric.labels else (), number


def _of_supervisor(name: str, one: Processes) -> Iterator[Sample]:
    if name == "kpipe_handler_restarts_total":
        yield from (((cause,), count) for cause, count in sorted(one.totals.restarts.items()))
    else:
        yield (), one.ready if name == "kpipe_handler_ready" else one.replicas


def _of_partitions(name: str, one: Processes) -> Iterator[Sample]:
    if name == "kpipe_partition_records_total":
        yield from (((topic, str(number)), count) for (topic, number), count in sorted(one.totals.records.items()))
        return
    field = {
        "kpipe_lag": "lag", "kpipe_lag_seconds": "lag_seconds",
        "kpipe_frontier_lag": "frontier_lag", "kpipe_frontier_age_seconds": "frontier_age",
    }[name]  # fmt: skip
    for place in sorted(one.places, key=lambda place: place[:2]):
        number = getattr(place, field)
        if number is not None:
            yield (place.topic, str(place.partition)), number
