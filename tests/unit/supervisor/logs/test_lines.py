from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.supervisor.logs.lines import Line, LineBuffer, printable


def read(*chunks: bytes, longest: int = 65_536) -> list[Line]:
    buffer = LineBuffer(longest)
    return [line for chunk in chunks for line in buffer.feed(chunk)] + buffer.close()


def test_lines_are_put_together_across_reads() -> None:
    assert read(b"a", b"b\nc", b"d\n\ne") == [Line("ab"), Line("cd"), Line(""), Line("e")]


def test_carriage_returns_before_a_line_end_are_part_of_it() -> None:
    assert read(b"dos\r\nprogress 1\rprogress 2\n") == [Line("dos"), Line("progress 1\\x0dprogress 2")]


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert printable(b"\x1b]0;owned\x07 \x9b31m tab\there \x7f") == "\\x1b]0;owned\\x07 \\x9b31m tab\there \\x7f"
    assert printable("a\u202eb\u2066c\u0085d".encode()) == "a\\u202eb\\u2066c\\x85d"
    assert printable("grüße 🎉 👩‍💻".encode()) == "grüße 🎉 👩‍💻"


def test_a_long_line_is_cut_into_marked_pieces_without_splitting_a_character() -> None:
    text = "é" * 10
    lines = read(text.encode() + b"\nnext\n", longest=5)
    assert lines == [Line("éé", True)] * 4 + [Line("éé"), Line("next")]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs"]), max_size=200), max_size=10),
    st.integers(8, 64),
    st.data(),
)
def test_nothing_is_lost_however_it_is_read(texts: list[str], longest: int, data: st.DataObject) -> None:
    raw = "".join(text + "\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=10)))
    chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    lines = read(*chunks, longest=longest)
    whole = "".join(line.text + ("" if line.partial else "\n") for line in lines)
    assert whole == "".join(text + "\n" for text in texts)
    assert all(len(line.text.encode()) <= longest for line in lines)


@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(8, 64))
def test_any_bytes_become_printable_text(chunks: list[bytes], longest: int) -> None:
    for line in read(*chunks, longest=longest):
        assert not [c for c in line.text if c != "\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]
