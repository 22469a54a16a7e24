"""Records as lines, many at once: the same text as one at a time, whatever is in them."""

from __future__ import annotations

import json
import re
import sys

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.cli.render import output, record, record_lines
from orchestrator.operations.records import exact_json
from orchestrator.records import Record
from orchestrator.text import _UNSAFE_IN_LINE

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,", ":"), (",\n", " : ")])


@st.composite
def values(draw: st.DrawFn) -> bytes:
    document, layout = draw(documents), draw(layouts)
    space = draw(st.sampled_from(["", " ", "\t", "\r\n"]))
    return (space + json.dumps(document, ensure_ascii=draw(st.booleans()), separators=layout) + space).encode(
        "utf-8", "surrogatepass"
    )


raw = st.none() | st.binary(max_size=8) | values()
headers = st.lists(
    st.tuples(st.sampled_from(["trace", "kpipe-dlq-id", "kpipe-dlq-reason", "kpipe-dlq-stack"]), raw), max_size=4
).map(tuple)
records = st.builds(
    Record,
    topic=st.sampled_from(["dev.orders", "dev.orders.dlq"]),
    partition=st.integers(0, 2),
    offset=st.integers(0, 2**40),
    timestamp=st.integers(-1, 2**45),
    key=st.none() | st.text(max_size=6).map(str.encode) | st.binary(max_size=6),
    value=raw,
    headers=headers,
)
NAMES = {"dev.orders": "orders", "dev.orders.dlq": "orders.dlq"}
PLAIN = Record("dev.orders", 1, 42, 1_738_324_800_123, b"o-1", b'{"a":"b, c: d"}', (("trace", b"t"),))


@given(st.lists(records, max_size=4), st.booleans())
@example([PLAIN, PLAIN._replace(key=b"\x7f"), PLAIN._replace(value=b'{"a":"\x7f"}')], False)
@example([PLAIN._replace(value=b'{"a": 1}'), PLAIN._replace(value=b' {"a":1} ')], True)
def test_many_at_once_are_the_same_as_one_at_a_time(many: list[Record], show_topic: bool) -> None:
    one_at_a_time = [record.for_people(one, NAMES[one.topic], show_topic=show_topic) for one in many]
    assert record_lines.for_people(many, NAMES, show_topic=show_topic) == one_at_a_time


@given(values() | st.binary(max_size=12))
@example(b'{"a":"b, c: d"}')
@example(b'{"a":"b c"}')
@example(b'["\\u202e\x7f"]')
def test_what_is_plain_needs_no_change(value: bytes) -> None:
    text = exact_json.plain(value)
    if text is not None:
        assert text == exact_json.compact(value) == output.safe(text) == output.json_safe(text)
        assert text.encode() == value


def test_compact_json_without_odd_characters_is_plain() -> None:
    assert exact_json.plain('{"a b":[1.50,"é d"],"c":null}'.encode()) == '{"a b":[1.50,"é d"],"c":null}'
    assert exact_json.plain(b'{"a": 1}') is exact_json.plain(b"{") is None


def test_no_character_that_a_terminal_may_act_on_counts_as_printable() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    assert not [char for char in re.findall(_UNSAFE_IN_LINE, every) if char.isprintable()]
