"""The table behind dedup: what is put in is found, and nothing else; little memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.delivery.dedup import Dedup
from orchestrator.delivery.ids import WIDTH, Ids

#: First hashes, and second ones that can be seen across the border of two others.
firsts = st.integers(0, 40)
seconds = st.integers(0, 3).map(lambda n: n.to_bytes(WIDTH, "little")) | st.just(b"\1" * WIDTH)
keys = st.tuples(firsts, seconds)


@given(st.lists(st.lists(st.tuples(keys, st.integers(0, 255)), max_size=400, unique_by=lambda put: put[0][0])))
def test_it_is_a_dict_whose_keys_are_known_by_both_hashes(puts: list[list[tuple[tuple[int, bytes], int]]]) -> None:
    ids = Ids()
    known: dict[int, tuple[bytes, int]] = {}
    for together in puts:
        ids.put(
            [first for (first, _), _ in together],
            b"".join(second for (_, second), _ in together),
            bytes(number for _, number in together),
        )
        known.update({first: (second, number) for (first, second), number in together})
    assert len(ids) == len(known) and set(ids.firsts) == set(known)
    assert all(ids.get(first, second) is not None for first, (second, _) in known.items())
    assert all(ids.get(first, b"\7" * WIDTH) is None for first in known)
    assert all(ids.get(first, b"\0" * WIDTH) is None for first in range(41, 60))


def test_a_second_hash_that_looks_like_a_part_of_two_others_is_not_there() -> None:
    ids = Ids()
    ids.put([1, 2], b"\1" * WIDTH + b"\1" * (WIDTH - 1) + b"\2", b"\3\4")
    assert ids.get(1, b"\1" * (WIDTH - 2) + b"\2\1") is None
    assert ids.get(1, b"\1" * WIDTH) == 3
    assert ids.get(2, b"\1" * (WIDTH - 1) + b"\2") == 4


def test_the_number_that_came_last_counts() -> None:
    ids = Ids()
    for number in (1, 2):
        ids.put([5], b"12345678", bytes([number]))
    assert ids.get(5, b"12345678") == 2 and len(ids) == 1


def test_an_id_takes_at_most_a_hundred_bytes_whatever_the_table_holds() -> None:
    for count in (1_000, 2_049, 10_923):  # the last two: where a dict has just grown
        dedup = Dedup(window=600_000)
        used = _bytes(lambda dedup=dedup, count=count: [dedup.take(f"id-{n}", n, n) for n in range(count)] and None)
        assert used / count <= 100, f"{used / count:.1f} bytes an id with {count}"


def _bytes(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
