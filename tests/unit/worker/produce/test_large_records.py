"""Records that are too large: what a cut letter keeps, where the whole record is, and what no request can carry."""

from __future__ import annotations

import base64
import json
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.model import KafkaSettings
from orchestrator.delivery.headers.dead_letters import (
    CUTS,
    PREFIX,
    TRUNCATED,
    Cut,
    Death,
    Sender,
    read_letter,
    write_letter,
)
from orchestrator.delivery.outcome import Failed
from orchestrator.kafka import producer as producers
from orchestrator.kafka.producer import LARGEST_REQUEST, NEVER_ARRIVES, Producer, SendFailure, compressed_below
from orchestrator.kafka.properties import client_properties
from orchestrator.operations.dead_letters.routing import Chosen, Routes
from orchestrator.operations.send.recorded import recorded
from orchestrator.records import Outgoing, Record
from orchestrator.worker.produce.kept_records import PIECE, KeptRecords, place_of, whole

SENDER = Sender("p.h", "p", "h")
DEATH = Death("rejected", Failed("reject", "no " * 500, "E", stack="s" * 9_000), 1, 0.0, 0.0, event_id="x")


def record(value: bytes | None = b'{"a":1}', key: bytes | None = b"k", headers: Any = ()) -> Record:
    return Record("in", 2, 7, 1_700_000_000_000, key, value, headers)


def letter(of: Record, cut: Cut | None) -> Outgoing:
    return write_letter(of, SENDER, DEATH, "in.dlq", 3, cut)


def size(out: Outgoing) -> int:
    return (
        len(out.key or b"") + len(out.value or b"") + sum(len(name) + len(value or b"") for name, value in out.headers)
    )


def test_each_step_keeps_less_and_all_tell_the_sizes() -> None:
    of = record(b"x" * 3_000_000, headers=(("h", b"y" * 500_000), ("null", None)))
    outs = [letter(of, cut) for cut in CUTS]
    assert [len(out.value or b"") for out in outs] == [65_536, 4_096, 4_096, 0]
    assert [("h", b"y" * 500_000) in out.headers for out in outs] == [True, True, False, False]
    assert [size(out) for out in outs] == sorted((size(out) for out in outs), reverse=True)
    assert size(outs[-1]) < 2_000, "the last one is small"
    for out in outs:
        told = read_letter(out.headers)
        assert told is not None and told.truncated and (told.id, told.reason) == ("p.h/in/2/7", "rejected")
        assert json.loads((told.headers or {})["truncated"]) == {"key": 1, "value": 3_000_000, "headers": 500_005}


def test_a_letter_that_fits_says_nothing_of_it() -> None:
    told = read_letter(letter(record(), None).headers)
    assert told is not None and not told.truncated


def test_an_events_own_header_of_that_name_is_replaced() -> None:
    out = letter(record(headers=((TRUNCATED, b"forged"),)), None)
    assert TRUNCATED not in dict(out.headers)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_the_value_is_a_beginning_and_no_character_is_split(raw: bytes, most: int) -> None:
    text = raw.decode("utf-8", "replace")
    for value in (raw, text.encode()):
        kept = letter(record(value), Cut(most)).value
        assert (kept is not None and value.startswith(kept) and most - 4 < len(kept) <= most) or kept == value
    kept = letter(record(text.encode()), Cut(most)).value
    assert kept is not None and text.startswith(kept.decode()), "still UTF-8"


def test_a_tombstone_stays_one_and_a_long_key_goes_last() -> None:
    assert [letter(record(None, headers=(("h", b"y" * 9),)), cut).value for cut in CUTS] == [None] * 4
    long = record(key=b"k" * 2_000_000)
    assert [len(letter(long, cut).key or b"") for cut in CUTS] == [2_000_000] * 3 + [0]
    assert letter(long, CUTS[-1]).partition == 2, "as without a key"
    assert letter(record(), CUTS[-1]).key == b"k"


# -- where the record is ----------------------------------------------------------------------------------------------


@given(
    st.none() | st.binary(max_size=50),
    st.none() | st.binary(max_size=50),
    st.lists(st.tuples(st.text(max_size=5).filter(lambda n: n.isprintable()), st.none() | st.binary(max_size=9))),
)
def test_what_is_kept_can_be_sent_again_byte_for_byte(key: bytes | None, value: bytes | None, headers: Any) -> None:
    of = record(value, key, tuple(headers))
    again = recorded(json.loads(whole(of)), "line 1")
    assert (again.key, again.headers) == (key, tuple(headers))
    assert (again.value if value is None else again.value.value) == value


def test_a_file_for_nobody_else_to_read(tmp_path: Path) -> None:
    place = Path(KeptRecords(tmp_path / "records" / "h").keep(record()))
    assert place == place_of(tmp_path / "records" / "h", record()) and place.read_text() == whole(record())
    assert place.stat().st_mode & 0o777 == 0o600 and place.parent.stat().st_mode & 0o077 == 0
    assert KeptRecords(tmp_path / "records" / "h").keep(record()) == str(place), "the same event once more"
    assert list(place.parent.iterdir()) == [place], "no draft is left"


def test_where_no_file_can_be_written_all_of_it_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "records").write_text("a file where a folder should be")
    caplog.set_level(logging.ERROR, "kpipe.worker")
    of = record(os.urandom(100_000))
    assert KeptRecords(tmp_path / "records").keep(of).startswith("the log")
    lines = [r.getMessage() for r in caplog.records if "base64" in r.getMessage()]
    assert len(lines) > 2 and max(map(len, lines)) < PIECE + 200
    assert base64.b64decode("".join(line.rpartition(": ")[2] for line in lines)).decode() == whole(of)


# -- what no request can carry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (b"x" * 3_000_000, True),
        (os.urandom(3_000_000), False),
        # Entropy coding would halve these, and lz4 has none.
        (os.urandom(1_500_000).hex().encode(), False),
        (bytes(random.Random(1).choices(b"0123456789", k=3_000_000)), False),
        (b"".join(b"%07d" % n for n in range(430_000)), True),
    ],
)
def test_what_lz4_makes_of_a_value_is_not_taken_for_smaller_than_it_is(value: bytes, fits: bool) -> None:
    assert compressed_below(value, 2_000_000) == fits


def test_a_record_that_no_broker_would_read_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker closes the connection on such a request, and librdkafka would send it again for ever."""
    monkeypatch.setattr(producers, "LARGEST_REQUEST", 1_000_000)
    nowhere = {**client_properties(KafkaSettings(), "producer", "127.0.0.1:1"), "log_level": "0"}
    producer = Producer(nowhere)
    heard: list[Any] = []
    noise, calm = os.urandom(1_000_001), b"x" * 1_000_001
    producer.send(Outgoing("t", None, noise), lambda failure, p, o: heard.append(failure))
    producer.post(Outgoing("t", None, noise), lambda error, message: heard.append(error), lambda: True)
    producer.post_parts(("t", None, noise, {}), lambda error, message: heard.append(error), lambda: True)
    assert heard == [NEVER_ARRIVES] * 3 and NEVER_ARRIVES.too_large
    producer.post_parts(("t", None, calm, {}), lambda error, message: heard.append(error), lambda: True)
    assert len(heard) == 3 and producer.flush(0) == 1, "on its way: compressed it is small"
    plain = Producer({**nowhere, "compression.type": "none"})
    plain.send(Outgoing("t", None, calm), lambda failure, p, o: heard.append(failure))
    assert heard[3:] == [NEVER_ARRIVES]
    assert LARGEST_REQUEST == 104_857_600
    for one in (producer, plain):
        one.close(0)


def test_a_record_may_be_larger_than_a_megabyte_before_it_is_compressed() -> None:
    producer = Producer({**client_properties(KafkaSettings(), "producer", "127.0.0.1:1"), "log_level": "0"})
    heard: list[SendFailure | None] = []
    producer.send(Outgoing("t", None, b"x" * 90_000_000), lambda failure, p, o: heard.append(failure), lambda: True)
    assert not heard and producer.flush(0) == 1
    producer.close(0)


# -- sending back -----------------------------------------------------------------------------------------------------


def test_a_letter_that_was_cut_is_not_sent_back(tmp_path: Path) -> None:
    from tests.unit.provisioning.test_sizes import pipeline

    file = pipeline(tmp_path)
    headers = dict(letter(record(), CUTS[0]).headers) | {PREFIX + "pipeline": b"shop", PREFIX + "handler": b"h"}
    for name, goes in ((TRUNCATED, False), ("", True)):
        kept = tuple((k, v) for k, v in headers.items() if goes is False or k != TRUNCATED)
        told = read_letter(kept)
        assert told is not None
        routes = Routes(file, Chosen(), {"h": set()})
        assert bool(routes.of(told)) == goes, name
        assert (sum(routes.totals.unknown.values()), routes.totals.letters) == ((0, 1) if goes else (1, 0))
