"""What a handler outside of the process may answer, and what is said about the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event
from orchestrator.records import Record
from orchestrator.worker.runners.messages import outcome_of, request_line


def test_emits() -> None:
    emits = outcome_of(
        {
            "id": 1,
            "emit": [
                {"topic": "a", "value": {"n": 1}},
                {"topic": "b", "value": None, "key": "k", "headers": [["h", "1"], ["h", {"base64": "/w=="}]]},
                {"topic": "c", "value": 1, "keyBase64": "/w==", "headers": {"x": "y"}},
            ],
        }
    )
    assert isinstance(emits, list)
    assert [(e.topic, e.value, e.key, e.headers) for e in emits] == [
        ("a", {"n": 1}, None, None),
        ("b", None, "k", [("h", "1"), ("h", b"\xff")]),
        ("c", 1, b"\xff", [("x", "y")]),
    ]


@pytest.mark.parametrize("key", [b"k-1", 'a"b\\\u2028é'.encode(), b"\xff", None])
@pytest.mark.parametrize("raw", [b'{"n": 1.50, "s": "\xe2\x80\xa8"}', b"[1,\r\n2]", b"null"])
def test_the_usual_event_and_one_with_a_header_are_told_alike(key: bytes | None, raw: bytes) -> None:
    value = json.loads(raw)
    plain = Event(Record("t", 2, 7, 1_000, key, raw, ()), value, topic="orders", attempt=3)
    other = Event(Record("t", 2, 7, 1_000, key, raw, (("h", b"1"),)), value, topic="orders", attempt=3)
    assert request_line(plain, 9) == request_line(other, 9).replace(b'[["h","1"]]', b"[]")


@pytest.mark.parametrize("reply", [{"id": 1}, {"id": 1, "emit": []}, {"id": 1, "emit": None}])
def test_nothing_to_publish(reply: Any) -> None:
    assert outcome_of(reply) == []


@pytest.mark.parametrize(
    ("reply", "verdict", "after"),
    [
        ({"id": 1, "retry": "busy", "after": 2.5}, "retry", 2.5),
        ({"id": 1, "reject": "bad"}, "reject", None),
        ({"id": 1, "unavailable": "", "after": 0}, "unavailable", 0.0),
    ],
)
def test_failures(reply: Any, verdict: str, after: float | None) -> None:
    failed = outcome_of(reply)
    assert isinstance(failed, Failed) and (failed.verdict, failed.after) == (verdict, after)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ([], "the reply is a list; expected an object"),
        ({"id": 1, "emits": []}, "`emits`, which means nothing; did you mean `emit`?"),
        ({"emit": [], "retry": "x"}, "`emit` and `retry`; only one"),
        ({"reject": "x", "after": 1}, "`after` does not go with `reject`"),
        ({"retry": True}, "`retry` is true; expected the reason as a string"),
        ({"retry": "x", "after": "1"}, "expected seconds"),
        ({"retry": "x", "after": -1}, "expected seconds"),
        ({"emit": {"topic": "a"}}, "`emit` is an object; expected a list"),
        ({"emit": [3]}, "`emit[0]` is a number; expected an object"),
        ({"emit": [{"value": 1}]}, "`emit[0]` has no `topic`"),
        ({"emit": [{"topic": "a"}]}, "`emit[0]` has no `value`"),
        ({"emit": [{"topic": "a", "value": 1, "key": 5}]}, "`key` is a number; expected a string"),
        ({"emit": [{"topic": "a", "value": 1, "key": "a", "keyBase64": "YQ=="}]}, "only one of them"),
        ({"emit": [{"topic": "a", "value": 1, "keyBase64": "?"}]}, "`keyBase64` is not Base64"),
        ({"emit": [{"topic": "a", "value": 1, "headers": "x"}]}, "`headers` is a string"),
        ({"emit": [{"topic": "a", "value": 1, "headers": [["x"]]}]}, "expected [name, value]"),
        ({"emit": [{"topic": "a", "value": 1, "headers": [["x", 1]]}]}, "the header `x` is a number"),
    ],
)
def test_what_is_wrong_is_said(reply: Any, said: str) -> None:
    failed = outcome_of(reply)
    assert isinstance(failed, Failed) and failed.verdict == "output" and said in failed.message
