"""Which records of a topic made anew arrived already: found again in its log, never more than did."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.delivery.offsets.arrivals import Arrivals, mark_of
from orchestrator.records import Record


def record(offset: int, timestamp: int, value: bytes) -> Record:
    return Record("in", 0, offset, timestamp, b"k", value, ())


def log_of(first: int, count: int, at: int, name: bytes, gaps: int = 0) -> list[Record]:
    """Records of one log whose clock goes on; every `gaps`th offset is missing."""
    return [
        record(first + n, at + n // 2, name + b"%d" % (first + n))
        for n in range(count)
        if not gaps or (first + n) % gaps
    ]


@given(
    st.integers(0, 40), st.integers(0, 40), st.integers(0, 60), st.lists(st.integers(1, 30), max_size=10),
    st.integers(0, 1) | st.integers(3, 7), st.integers(0, 3),
)  # fmt: skip
@example(old=5, kept=0, new=10, polls=[3, 9, 2], gaps=0, more=2)
def test_the_new_logs_records_are_known_again(
    old: int, kept: int, new: int, polls: list[int], gaps: int, more: int
) -> None:
    """`old` records of the former log arrive, then the consumer reads on in the new one, at its old offset."""
    gaps = 0 if gaps < 2 else gaps
    former = log_of(0, old, 1_000, b"old", gaps)
    position = former[-1].offset + 1 if former else 0
    there = log_of(0, position + new, 5_000, b"new", gaps)
    arrived = former + [r for r in there if r.offset >= position]
    arrivals = Arrivals()
    at = 0
    for size in [*polls, len(arrived)]:
        if arrived[at : at + size]:
            arrivals.add(arrived[at : at + size])
        at += size
    seen = {r.offset: mark_of(r) for r in there + log_of(position + new, more, 9_000, b"later")}
    ours = [r.offset for r in arrived if r.value is not None and r.value.startswith(b"new")]
    assert arrivals.part(seen) == (ours[0] if ours else None)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 60))
def test_where_all_times_are_the_same_no_event_of_the_new_log_is_taken_for_handled(
    old: int, new: int, poll: int
) -> None:
    """Timestamps are the producers': they may prove nothing. Then events run twice rather than never."""
    former = [record(n, 7, b"old%d" % n) for n in range(old)]
    there = [record(n, 7, b"new%d" % n) for n in range(old + new)]
    arrived = former + there[old:]
    arrivals = Arrivals()
    for at in range(0, len(arrived), poll):
        arrivals.add(arrived[at : at + poll])
    first = arrivals.part({r.offset: mark_of(r) for r in there})
    assert first is None or first >= old


@given(st.lists(st.sampled_from(["add", "ask", "verify"]), max_size=40))
def test_only_what_arrived_before_the_last_but_one_answered_question_is_forgotten(steps: list[str]) -> None:
    arrivals, arrived, asked, answered = Arrivals(), 0, 0, [0, 0]
    for step in steps:
        if step == "add":
            arrivals.add([record(arrived, arrived, b"x")])
            arrived += 1
        elif step == "ask":
            arrivals.ask()
            asked = arrived
        else:
            arrivals.verify()
            answered.append(asked)
    kept = answered[-2]
    assert arrivals.first == (kept if kept < arrived else None)
