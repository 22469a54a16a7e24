"""The headers that say what caused an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.model import Handler, KafkaSettings, Pipeline, Topic
from orchestrator.contracts import Contract
from orchestrator.delivery.headers.lineage import (
    begun,
    derived_trace,
    new_traceparent,
    source_of,
    stamp,
    stamper,
    trace_of,
)
from orchestrator.event import Emit
from orchestrator.records import Headers, Record, TopicPartition
from orchestrator.worker.produce.outputs import Outputs

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
RECORD = Record("ns.orders", 2, 42, 1_700_000_000_000, b"k", b"{}", ())


def stamped(
    headers: Headers, own: dict[str, str | bytes] | None = None, emits: int = 1
) -> list[dict[str, bytes | None]]:
    topic = Topic("out", "out", partitions=1, replication=1, configs={})
    handler = Handler(name="h", kind="python", target="x:y", group="ns.p.h", produces=("out",))
    outputs = Outputs(
        Pipeline("p", "", Path(), KafkaSettings(), {"out": topic}, {}, {}), handler, {"out": Contract("out")}
    )
    made = outputs.prepare([Emit("out", {}, headers=own)] * emits, RECORD._replace(headers=headers), 3)
    assert isinstance(made, list)
    for out in made:
        assert len(out.headers) == len(dict(out.headers)), "a header is there twice"
    return [dict(out.headers) for out in made]


def test_every_output_names_the_event_and_the_attempt_that_caused_it() -> None:
    first, second = stamped((), emits=2)
    assert first == second, "all outputs of one run are children of the same span"
    assert first["kpipe-source"] == b"ns.p.h/ns.orders/2/42/3"
    source = source_of(tuple(first.items()))
    assert source == ("ns.p.h", TopicPartition("ns.orders", 2), 42, 3)


@pytest.mark.parametrize("chance", [0, 1, 42, 2**64 - 1])
@pytest.mark.parametrize("timestamp", [-1, 0, 1_700_000_000_000])
def test_many_records_are_stamped_as_one_is(chance: int, timestamp: int) -> None:
    quick = stamper("ns.p.h", "ns.orders", 2, chance)
    spans = set()
    for offset in (0, 42, 43, 2**62):
        record = RECORD._replace(offset=offset, timestamp=timestamp)
        made = quick(timestamp, offset)
        assert tuple(made.items()) == stamp("ns.p.h", record, 1, chance ^ offset)
        spans.add(made["traceparent"][36:52])
    assert len(spans) == 4 - (chance == 42) and b"0" * 16 not in spans


def test_the_trace_goes_on_in_a_new_span_with_the_flags_it_has() -> None:
    (headers,) = stamped((("traceparent", PARENT.replace(b"-01", b"-00")), ("tracestate", b"a=1"), ("x", b"mine")))
    parent = headers["traceparent"] or b""
    assert parent.startswith(f"00-{TRACE}-".encode()) and parent.endswith(b"-00")
    assert parent[36:52] not in (b"00f067aa0ba902b7", b"0" * 16)
    assert headers["tracestate"] == b"a=1" and "x" not in headers


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"00",
        PARENT.upper(),
        PARENT.replace(TRACE.encode(), b"0" * 32),
        PARENT[:36] + b"0" * 16 + b"-01",
        b"ff" + PARENT[2:],
        b"\xff",
    ],
)
def test_a_broken_traceparent_counts_as_none(broken: bytes) -> None:
    (headers,) = stamped((("traceparent", broken),))
    assert trace_of(tuple(headers.items())) == derived_trace(RECORD) != TRACE


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert trace_of((("traceparent", b"01-" + PARENT[3:] + b"-more"),)) == TRACE


def test_an_event_without_a_trace_has_the_same_one_for_all_its_handlers() -> None:
    traces = {trace_of(tuple(headers.items())) for headers in (*stamped(()), *stamped(()))}
    assert len(traces) == 1
    assert trace_of(stamp("another", RECORD, 1, 7)) in traces


def test_a_handler_may_begin_a_trace_of_its_own_but_not_lie_about_the_source() -> None:
    (headers,) = stamped((("traceparent", PARENT),), {"traceparent": "mine", "kpipe-source": "g/t/0/0/1", "a": "b"})
    assert headers["traceparent"] == b"mine" and headers["a"] == b"b"
    assert headers["kpipe-source"] == b"ns.p.h/ns.orders/2/42/3"


@pytest.mark.parametrize("text", [b"", b"a/b/c", b"g/t/x/1/1", b"g/t/0/-1/1", b"\xff/\xff", None, b"/" * 4])
def test_a_source_that_is_none(text: bytes | None) -> None:
    assert source_of((("kpipe-source", text),)) is None


def test_a_trace_begins_where_there_is_none() -> None:
    own = (("traceparent", PARENT),)
    assert begun(own, 5) is own
    assert trace_of(begun((), 1 << 64 | 1)) == f"{1:032x}"
    assert trace_of((("traceparent", new_traceparent(0)),)) is not None
