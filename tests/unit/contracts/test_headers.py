"""The headers that an author gives, and how JSON shows them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest

from orchestrator.contracts.headers import WrongHeader, as_json, given


class Name(StrEnum):
    TRACE = "trace"


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        (None, ()),
        ({}, ()),
        ({"a": "\u00e9", "b": b"\xff", "c": None}, (("a", "\u00e9".encode()), ("b", b"\xff"), ("c", None))),
        ([("a", "1"), ["a", "2"]], (("a", b"1"), ("a", b"2"))),
        ((("", b""), (" ", ""), ("a\n:", "x")), (("", b""), (" ", b""), ("a\n:", b"x"))),
        ({"caf\udce9": "v"}, (("caf\udce9", b"v"),)),
        ({Name.TRACE: "x"}, (("trace", b"x"),)),
        ({"kpipe-source": "g/t/0/0/1", "kpipe-dlq-id": b"i", "kpipe-new": "x", "kpipe": "y"}, (("kpipe", b"y"),)),
    ],
)
def test_what_is_taken(headers: Any, taken: object) -> None:
    assert given(headers) == taken


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ("a:b", "the headers are a str; expected a mapping or a list of pairs"),
        (5, "the headers are a int"),
        (iter(()), "expected a mapping or a list of pairs"),
        ([("a",)], "the header ('a',) is no pair"),
        (["ab"], "the header 'ab' is no pair"),
        ({5: "a"}, "the header name 5 is a int; expected a string"),
        ({b"a": "a"}, "the header name b'a' is a bytes"),
        ({"a\0b": "c"}, "has a NUL"),
        ({"\ud800": "v"}, r"the header name '\ud800' is not valid Unicode"),
        ({"kpipe-\ud800": "v"}, "is not valid Unicode"),
        ({"a": 5}, "the header 'a' is a int; expected a string, bytes or None"),
        ({"a": bytearray(b"x")}, "the header 'a' is a bytearray"),
        ({"a": "\udc80"}, "the value of the header 'a' is not valid Unicode"),
    ],
)
def test_what_is_refused(headers: Any, why: str) -> None:
    with pytest.raises(WrongHeader) as refused:
        given(headers)
    assert why in str(refused.value)


def test_json_has_text_where_it_can_and_base64_where_it_must() -> None:
    headers = (("a", b"x"), ("\u00e9", None), ("caf\udce9", b"\xff"), ("\udcc3\udca9", b""))
    assert as_json(headers) == [
        ["a", "x"],
        ["\u00e9", None],
        [{"base64": "Y2Fm6Q=="}, {"base64": "/w=="}],
        ["\u00e9", ""],
    ]
