"""The table behind dedup: what is put in is found, and nothing else; little memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.delivery.dedup import Dedup
from orchestrator.delivery.ids import KEY, Ids


def parts(n: int) -> tuple[bytes, int]:
    key = n.to_bytes(KEY, "little")
    return key, int.from_bytes(key[:4], "little")


#: Keys that differ in their first bytes, or only behind them, or that can be seen across the border of two others.
keys = st.integers(0, 300) | st.integers(0, 3).map(lambda n: n << 64) | st.just(int.from_bytes(b"\1" * KEY, "little"))


@given(st.lists(st.tuples(keys, st.integers(0, 255)), max_size=600))
def test_it_is_a_dict(puts: list[tuple[int, int]]) -> None:
    ids = Ids()
    known: dict[int, int] = {}
    for key, number in puts:
        ids.put(*parts(key), number)
        known[key] = number
    assert len(ids) == len(known)
    assert all(ids.get(*parts(key)) == number for key, number in known.items())
    assert all(ids.get(*parts(key)) is None for key in range(301, 400))


def test_ids_that_look_like_a_part_of_two_others_are_not_there() -> None:
    ids = Ids()
    ids.put(b"\1" * KEY, 0x01010101, 1)
    ids.put(b"\1" * (KEY - 1) + b"\2", 0x01010101, 1)
    assert ids.get(b"\1" * (KEY - 2) + b"\2\1", 0x01010101) is None


def test_an_id_takes_at_most_a_quarter_of_a_hundred_bytes_whatever_the_table_holds() -> None:
    for count in (1_000, 2_049, 10_923):
        dedup = Dedup(window=600_000)
        used = _bytes(lambda dedup=dedup, count=count: [dedup.take(f"id-{n}", n, n) for n in range(count)] and None)
        assert used / count < 25, f"{used / count:.1f} bytes an id with {count}"


def _bytes(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
