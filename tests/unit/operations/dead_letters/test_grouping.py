"""Letters grouped by their cause: in bounded memory, the newest as the sample."""

from __future__ import annotations

from orchestrator.event import Letter
from orchestrator.operations.dead_letters.grouping import Causes
from orchestrator.records import Record


def letter(fingerprint: str, message: str = "no") -> Letter:
    return Letter(message, "t", 0, 0, "h", "rejected", "m.E", message, fingerprint=fingerprint, headers={"stack": "x"})


def record(at: int) -> Record:
    return Record("dlq", 0, at, at, b"k", b"v" * 1000, (("h", b"x"),))


def test_counts_times_and_the_newest_sample() -> None:
    causes = Causes()
    for at, message in ((5, "b"), (9, "c"), (1, "a")):
        causes.add("dlq", record(at), letter("f", message), redriven=at == 9)
    [cause] = causes.newest_first()
    assert (cause.count, cause.redriven, cause.first, cause.last, cause.message) == (3, 1, 1, 9, "E: c")


def test_further_causes_are_only_counted_and_nothing_large_is_kept() -> None:
    causes = Causes(most=2)
    for n in range(6):
        causes.add("dlq", record(n), letter(f"f{n % 3}"), redriven=False)
    assert (causes.letters, causes.others) == (6, 2)
    for cause in causes.newest_first():
        assert cause.record.value is None and cause.record.headers == () and cause.sample.headers is None


def test_one_cause_in_two_queues_is_two() -> None:
    causes = Causes()
    causes.add("a", record(1), letter("f"), redriven=False)
    causes.add("b", record(2), letter("f"), redriven=False)
    assert [cause.dlq for cause in causes.newest_first()] == ["b", "a"]
