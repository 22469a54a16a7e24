from __future__ import annotations

import json

import pytest

from orchestrator.supervisor.reports import Status, parse
from orchestrator.supervisor.spec import StartRefusal

COUNTS = {"in": 5, "done": 1, "dead_lettered": 1, "skipped": 1, "in_flight": 2}


def test_each_type() -> None:
    assert parse(b'{"type": "ready", "partitions": [["t", 0]]}').type == "ready"
    assert parse(b'{"type": "not-ready"}').type == "not-ready"
    status = {"type": "status", "accounting": COUNTS, "lag": 4, "paused": 1, "last_error": "x"}
    assert parse(json.dumps(status).encode()).status == Status(COUNTS, 4, 1, "x")
    assert parse(b'{"type": "status"}').status == Status()
    failed = parse(b'{"type": "failed-to-start", "message": "no module", "hint": "look"}')
    assert failed.refusal == StartRefusal("no module", "look")


def test_an_error_quotes_events_and_must_not_reach_a_terminal_raw() -> None:
    status = parse(json.dumps({"type": "status", "last_error": "\x1b[2J\ud800 boo"}).encode()).status
    assert status.last_error == "\\x1b[2J\\ud800 boo"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[1]",
        b'"ready"',
        b"{}",
        b'{"type": "other"}',
        b'{"type": "status", "lag": "4"}',
        b'{"type": "status", "lag": 4.5}',
        b'{"type": "status", "accounting": {"in": 1}}',
        b'{"type": "status", "accounting": 7}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse(line)
