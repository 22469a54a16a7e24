"""Headers can be anybody's: whatever they are, reading them never raises, and what is kept stays byte for byte."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import example, given

from orchestrator.cli.render import dead_letter
from orchestrator.cli.render import record as formats
from orchestrator.contracts import headers as contract_headers
from orchestrator.contracts.headers import WrongHeader
from orchestrator.delivery.headers import dead_letters
from orchestrator.delivery.headers.dead_letters import Death, Sender, read_letter, write_letter
from orchestrator.delivery.headers.lineage import derived_trace, source_of, stamp, trace_of
from orchestrator.delivery.headers.redrive import (
    key_of_letter,
    key_of_redriven,
    read_redriven,
    restore,
    send_back,
    time_of,
)
from orchestrator.delivery.offsets.checkpoint import Checkpoint, read_checkpoint
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event
from orchestrator.kafka.admin.claims import _take
from orchestrator.operations.records import where
from orchestrator.operations.send.recorded import recorded
from orchestrator.operations.trace.causality import cause_of
from orchestrator.records import Claim, Headers, Record
from orchestrator.worker import events
from orchestrator.worker.runners.http import request_headers
from orchestrator.worker.runners.messages import outcome_of, request_line

NUMBERS = (
    "0", "1", "-1", "7", "2147483648", "9223372036854775807", "9" * 19, "9" * 5_000, "1_0", "\u0661", " 1", "1e3",
)  # fmt: skip
NAMES = (
    "a", "", "caf\u00e9", "traceparent", "tracestate", "baggage", "kpipe-source", "ce_id", "ce_caf\u00e9", "kpipe-",
    *(dead_letters.PREFIX + name for name in (
        "id", "reason", "topic", "partition", "offset", "timestamp", "attempts", "violations", "redrive-count", "group",
        "event-id", "stack",
    )),
    *(f"kpipe-redrive-{name}" for name in ("id", "topic", "partition", "offset", "timestamp")),
)  # fmt: skip
VIOLATIONS = ("[" * 3_000, '[{"path":"\\ud800","message":null}]', '[{"path":1}]', "{}", "1", '["x"]', "[[]]", "null")

raw_names = st.binary(max_size=8).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
names = st.sampled_from(NAMES) | raw_names
values = (
    st.none()
    | st.binary(max_size=40)
    | st.sampled_from((*NUMBERS, *VIOLATIONS)).map(str.encode)
    | st.builds("g/in/{}/{}/{}".format, *[st.sampled_from(NUMBERS)] * 3).map(str.encode)
)  # fmt: skip
all_headers = st.lists(st.tuples(names, values), max_size=12).map(tuple)
times = st.sampled_from((-1, 0, 1, 1_700_000_000_000, 253_402_300_800_000, (1 << 63) - 1, -(1 << 63)))
records = st.builds(
    Record,
    st.just("in"),
    st.integers(0, 3),
    st.integers(0, 1 << 62),
    times,
    st.none() | st.binary(max_size=8),
    st.none() | st.binary(max_size=20) | st.sampled_from((b"{}", b"null", b'{"a":"\\u2028"}')),
    all_headers,
)
SENDER = Sender("g", "p", "h")
DEATH = Death("rejected", Failed("reject", "no \ud800", "Reject"), 1, 1.0, 2.0)


def own(headers: Headers, *prefixes: str) -> Headers:
    return tuple(h for h in headers if not h[0].startswith(prefixes))


@given(records)
def test_a_letter_has_what_its_event_had_and_tells_where_that_was(record: Record) -> None:
    out = write_letter(record, SENDER, DEATH, "in.dlq", 3)
    kept = own(record.headers, dead_letters.PREFIX)
    assert (out.key, out.value, out.headers[: len(kept)]) == (record.key, record.value, kept)
    told = read_letter(out.headers)
    assert told is not None
    assert (told.topic, told.partition, told.offset) == ("in", record.partition, record.offset)
    assert time_of(told) == record.timestamp and told.redrive_count >= 0


def counted(count: bytes) -> Record:
    return Record("in", 0, 1, 1, None, b"{}", ((dead_letters.PREFIX + "redrive-count", count),))


@given(records)
@example(counted(b"9223372036854775807"))
@example(counted(b"4611686018427387904"))
@example(counted(b"4611686018427387903"))
@example(counted(b"-1"))
def test_a_letter_sent_back_is_its_event_again(record: Record) -> None:
    written = write_letter(record, SENDER, DEATH, "in.dlq", 3)
    letter_record = Record("in.dlq", 0, 5, 1, written.key, written.value, written.headers)
    told = read_letter(written.headers)
    assert told is not None
    out = send_back(letter_record, told, "redrive", 2)
    event = restore(Record("redrive", 0, 9, 2, out.key, out.value, out.headers))
    assert event is not None
    assert event[:6] == record[:6]
    assert own(event.headers, dead_letters.PREFIX) == own(record.headers, dead_letters.PREFIX, "kpipe-redrive-")
    assert key_of_redriven(Record("redrive", 0, 9, 2, out.key, out.value, out.headers)) == key_of_letter(told)


@given(records)
def test_forged_headers_are_read_or_count_as_none(record: Record) -> None:
    told = read_letter(record.headers)
    if told is not None:
        orjson.loads(dead_letter.as_json(record, told, "in.dlq"))
        assert "\n".join(dead_letter.for_people(record, told, "in.dlq")).encode()
        assert isinstance(send_back(record, told, "redrive", 2).partition, int | None)
        key_of_letter(told)
    event = restore(record)
    if event is not None:
        assert 0 <= event.partition < 1 << 31 and 0 <= event.offset < 1 << 63 and abs(event.timestamp) <= 1 << 63
    source = source_of(record.headers)
    assert source is None or (source.offset >= 0 and source.attempt >= 0)
    for about in (told, read_redriven(record)):
        cause_of(record, "letter", about)
    cause_of(record, "event", None)
    key_of_redriven(record)
    trace = trace_of(record.headers) or derived_trace(record)
    assert len(trace) == 32
    assert {len(value or b"") for name, value in stamp("g", record, 1, 7) if name == "traceparent"} == {55}


@given(records)
def test_what_is_shown_says_the_same_bytes(record: Record) -> None:
    shape = json.loads(formats.as_json(record, "in"))
    again = recorded(shape, "line 1")
    assert again.headers == record.headers and again.key == record.key
    formats.for_people(record, "in").encode()
    formats.by_format("%t %p %o %k %v %h %T", escaped=False)(record, "in")
    formats.by_format("%h", escaped=True)(record, "in").decode()
    orjson.dumps(where.document(record, "in"))
    orjson.loads(events.as_json(record))


@given(records)
def test_a_program_gets_every_header_and_can_give_it_back(record: Record) -> None:
    event = Event(record, None, topic="in", letter=read_letter(record.headers))
    request = orjson.loads(request_line(event, 7))
    [emit] = outcome_of({"id": 7, "emit": [{"topic": "out", "value": 1, "headers": request["headers"]}]})
    assert contract_headers.given(emit.headers) == own(record.headers, "kpipe-")
    for name, value in request_headers(event, "kafka://"):
        assert name.isascii() and value.isascii() and value.isprintable()


@given(
    st.one_of(
        st.none() | st.integers() | st.text(max_size=3) | st.binary(max_size=3),
        st.lists(st.tuples(names, values) | st.tuples(names) | st.integers() | st.text(max_size=2)),
        st.dictionaries(st.text(st.characters(), max_size=4) | st.integers() | st.binary(max_size=3),
                        st.text(st.characters(), max_size=4) | st.none() | st.binary(max_size=3) | st.integers()),
    )
)  # fmt: skip
def test_what_an_author_gives_is_taken_or_refused_with_a_reason(headers: Any) -> None:
    try:
        taken = contract_headers.given(headers)
    except WrongHeader as wrong:
        assert "header" in str(wrong) and len(str(wrong)) < 250
        return
    assert all(isinstance(value, bytes | None) and not name.startswith("kpipe-") for name, value in taken)
    assert b"\0" not in b"".join(name.encode("utf-8", "surrogateescape") for name, _ in taken)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("AAE="),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["v", "s", "n", "k", "x"]), inner),
    max_leaves=12,
)
triples = st.lists(st.integers(), min_size=3, max_size=3)
checkpoints = st.fixed_dictionaries(
    {"v": st.just(1), "s": st.just("AAE=") | st.text(max_size=6) | json_values, "n": triples | json_values},
    optional={"k": json_values | st.lists(st.integers(), max_size=6)},
)


@given(st.integers(0, 1 << 62), st.none() | st.text(st.characters()) | st.builds(json.dumps, checkpoints | json_values))
def test_metadata_of_a_commit_is_read_or_counts_as_none(offset: int, metadata: str | None) -> None:
    found = read_checkpoint(offset, metadata)
    assert found.offset == offset
    ends = [offset, *(end for _, end in found.settled)]
    assert all(start >= before and end > start for before, (start, end) in zip(ends, found.settled, strict=False))
    assert read_checkpoint(offset, found.metadata()).offset == offset


@pytest.mark.parametrize("nested", ["[" * 200_000, '{"v":' * 200_000])
def test_what_is_nested_without_end_counts_as_none(nested: str) -> None:
    assert read_checkpoint(5, nested) == Checkpoint(5)
    claims: dict[tuple[str, str], Claim] = {}
    _take(claims, b'["t", "o"]', nested.encode())
    _take(claims, nested.encode(), b"{}")
    assert not claims
    forged = {"id": b"i", "reason": b"r", "violations": nested.encode()}
    told = read_letter(tuple((dead_letters.PREFIX + name, value) for name, value in forged.items()))
    assert told is not None and told.violations == ()


@given(st.none() | st.binary(max_size=20) | st.builds(json.dumps, json_values).map(str.encode),
       st.none() | st.binary(max_size=20) | st.builds(json.dumps, json_values).map(str.encode))  # fmt: skip
def test_a_claim_is_read_or_counts_as_none(key: bytes | None, value: bytes | None) -> None:
    claims: dict[tuple[str, str], Claim] = {}
    _take(claims, key, value)
    assert all(isinstance(claim.created, bool) for claim in claims.values())
