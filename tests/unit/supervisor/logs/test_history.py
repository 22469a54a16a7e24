"""Logs read back: over rotated files, in the order of time, the last ones and those to come."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.state import StateError
from orchestrator.supervisor.logs import history
from orchestrator.supervisor.logs.files import LogFile
from orchestrator.supervisor.logs.lines import Line
from tests.support.planted import outside_of, plant

BEGIN = datetime(2025, 1, 31, 12, tzinfo=UTC)


def everything(_: history.LogEntry) -> bool:
    return True


def write(log: LogFile, second: int, *lines: str) -> None:
    log.write("stdout", [Line(line) for line in lines], BEGIN + timedelta(seconds=second))


def texts(entries: object) -> list[str]:
    return [entry.text for entry in entries]  # type: ignore[attr-defined]


def test_children_are_merged_by_time(tmp_path: Path) -> None:
    for name, seconds in (("a", range(0, 10, 2)), ("b.0", range(1, 10, 2))):
        log = LogFile(tmp_path / f"{name}.log")
        for second in seconds:
            write(log, second, str(second))
        log.close()
    (tmp_path / "broker.log").write_text("[2025-01-31 12:00:00] INFO something of Kafka's own\n")
    assert history.names(tmp_path) == ["a", "b.0", "broker"]
    assert texts(history.last(tmp_path, ["a", "b.0", "broker"], None, everything)) == list("0123456789")
    assert texts(history.last(tmp_path, ["a", "b.0"], 3, everything)) == list("789")
    assert texts(history.last(tmp_path, ["a"], 2, lambda e: e.text != "8")) == ["4", "6"]
    assert list(history.last(tmp_path, ["a"], 0, everything)) == []


def test_a_handler_is_all_of_its_replicas() -> None:
    children = ["_up", "pay", "pay.1", "payments", "tracking.0"]
    assert history.of_handlers(children, ["pay"]) == ["pay", "pay.1"]
    assert history.of_handlers(children, ["tracking", "_up"]) == ["_up", "tracking.0"]
    assert history.of_handlers(children, ["pay.1"]) == ["pay.1"]


def test_the_last_ones_over_rotated_files(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", limit=200, kept=3)
    for second in range(20):
        write(log, second, f"line {second}")
    kept = texts(history.last(tmp_path, ["a"], None, everything))
    assert kept == [f"line {n}" for n in range(20 - len(kept), 20)] and len(kept) > 8
    assert (tmp_path / "a.log.3").exists()
    for count in range(1, len(kept)):
        assert texts(history.last(tmp_path, ["a"], count, everything)) == kept[-count:]


def test_following_starts_at_the_end_and_sees_children_that_come_later(tmp_path: Path) -> None:
    first, later = LogFile(tmp_path / "a.log"), LogFile(tmp_path / "a.1.log")
    write(first, 0, "before")
    followed = history.Followed(tmp_path, lambda name: name.startswith("a"))
    assert followed.new() == []
    write(first, 2, "second")
    write(later, 1, "first")
    write(LogFile(tmp_path / "b.log"), 3, "not asked for")
    assert texts(followed.new()) == ["first", "second"]
    assert followed.new() == []
    followed.close()


def test_a_line_is_shown_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    followed = history.Followed(tmp_path, lambda _: True)
    with path.open("a") as file:
        file.write("2025-01-31T12:00:00.000000Z stderr P ha")
        file.flush()
        assert followed.new() == []
        file.write("lf\n")
    assert followed.new() == [history.LogEntry("2025-01-31T12:00:00.000000Z", "a", "stderr", True, "half")]
    followed.close()


@settings(deadline=None)  # it works on files, and machines are busy
@given(bursts=st.lists(st.integers(0, 8), max_size=12))
def test_following_over_rotations_misses_nothing_that_is_kept(bursts: list[int], tmp_path_factory: object) -> None:
    """Two lines a file, three older files: up to six lines between two looks are always there."""
    folder: Path = tmp_path_factory.mktemp("logs")  # type: ignore[attr-defined]
    log = LogFile(folder / "a.log", limit=90, kept=3)
    followed = history.Followed(folder, lambda _: True)
    number, seen = 0, []
    for burst in bursts:
        for _ in range(burst):
            write(log, number, f"{number:04}")
            number += 1
        new = texts(followed.new())
        expected = [f"{n:04}" for n in range(number - burst, number)]
        assert new == expected[len(expected) - len(new) :] and len(new) >= min(burst, 6)
        seen += new
    assert seen == sorted(set(seen))
    followed.close()
    log.close()


def test_a_line_without_an_end_takes_no_memory(tmp_path: Path) -> None:
    """No child's line is longer than supervisor/logs/lines.py lets it become."""
    with (tmp_path / "a.log").open("wb") as file:
        for _ in range(30):
            file.write(b"x" * 1_000_000)
        file.write(b"\n2025-01-31T12:00:00.000000Z stdout F after it\n")
    tracemalloc.start()
    try:
        assert texts(history.last(tmp_path, ["a"], 5, everything)) == ["after it"]
        followed = history.Followed(tmp_path, lambda _: True)
        (tmp_path / "b.log").write_bytes((tmp_path / "a.log").read_bytes()[-20_000_000:])
        tracemalloc.reset_peak()
        assert [entry.text for entry in followed.new()] == ["after it"]
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        followed.close()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["link", "link to /dev/zero", "fifo", "folder"])
def test_what_is_no_log_is_refused(tmp_path: Path, what: str) -> None:
    plant(tmp_path / "a.log", what, outside_of(tmp_path / "x"))
    with pytest.raises(StateError, match=r"a\.log"):
        texts(history.last(tmp_path, ["a"], 5, everything))
    with pytest.raises(StateError, match=r"a\.log"):
        history.Followed(tmp_path, lambda _: True)
