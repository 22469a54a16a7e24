"""The journal of what is in flight, written by one process and read by the next."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import time
from pathlib import Path

import pytest

from orchestrator.observe.journal import InFlight, Journal, claim, dead_journals, mark_hung, read_live
from orchestrator.records import TopicPartition
from tests.support.planted import outside_of, plant, seen

TP, OTHER = TopicPartition("orders.created", 2), TopicPartition("ü" * 125, 0)


def _die(folder: Path, slots: int, deadline: float, done: int) -> None:
    journal = Journal(folder, "g.h.0", slots, deaths=2)
    journal.ended_well(done)
    if slots == 1:
        journal.begin(journal.index_of(TP), 41, deadline)
    else:
        journal.end_one(journal.begin_one(journal.index_of(TP), 40, deadline))
        journal.begin_one(journal.index_of(TP), 41, deadline)
        journal.begin_one(journal.index_of(OTHER), 7, 0.0)
    if 0.0 < deadline < time.monotonic():
        journal.hung()
    os.kill(os.getpid(), signal.SIGKILL)


def die(folder: Path, slots: int = 1, deadline: float = 0.0, done: int = 0) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die, args=(folder, slots, deadline, done))
    process.start()
    process.join(20)


def test_what_ran_is_told_once(tmp_path: Path) -> None:
    die(tmp_path, slots=4)
    (dead,) = dead_journals(tmp_path, "g.h")
    assert (dead.name, dead.deaths) == ("g.h.0", 2)
    assert claim(tmp_path, "g.h", TP) == [InFlight(TP, 41, hung=False, proven=False)]
    assert claim(tmp_path, "g.h", TP) == []
    assert claim(tmp_path, "g.h", OTHER) == [InFlight(OTHER, 7, hung=False, proven=False)]
    assert list(tmp_path.iterdir()) == [], "a journal that has nothing more to tell is removed"


def test_a_hang_is_proven_when_nothing_else_ran_and_others_ended_well(tmp_path: Path) -> None:
    past = time.monotonic() - 1.0
    die(tmp_path, deadline=past, done=1)
    assert claim(tmp_path, "g.h", TP) == [InFlight(TP, 41, hung=True, proven=True)]
    die(tmp_path, deadline=past, done=0)
    assert claim(tmp_path, "g.h", TP) == [InFlight(TP, 41, hung=True, proven=False)]
    die(tmp_path, slots=4, deadline=past, done=1)
    assert claim(tmp_path, "g.h", TP) == [InFlight(TP, 41, hung=True, proven=False)]
    die(tmp_path, deadline=past + 1e6, done=1)
    assert claim(tmp_path, "g.h", TP) == [InFlight(TP, 41, hung=False, proven=False)]


def test_the_living_are_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "g.h.0")
    journal.begin(journal.index_of(TP), 5, 3.5)
    assert journal.path is not None
    assert dead_journals(tmp_path, "g.h") == [] and claim(tmp_path, "g.h", TP) == []
    assert read_live(journal.path) == (True, 3.5)
    journal.end()
    assert read_live(journal.path) == (False, 0.0)
    path = journal.path
    journal.close()
    assert not path.exists()
    assert read_live(path) == (False, 0.0)
    mark_hung(path)


def test_another_groups_journals_are_not_ours(tmp_path: Path) -> None:
    die(tmp_path)
    assert dead_journals(tmp_path, "g") == [] and dead_journals(tmp_path, "g.hh") == []


def test_nonsense_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "g.h.0~1-1.journal").write_bytes(b"nonsense")
    (tmp_path / "g.h.0~1-2.journal").write_bytes(b"kpipe-j1" + b"\xff" * 200)
    assert claim(tmp_path, "g.h", TP) == []


def test_where_nothing_can_be_written_it_works_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "folder", "g.h.0")
    assert journal.path is None
    journal.begin(journal.index_of(TP), 5, 3.5)
    journal.close()


def test_more_partitions_than_it_has_room_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "g.h.0")
    indexes = [journal.index_of(TopicPartition("t", n)) for n in range(1_100)]
    assert indexes[:1_024] == list(range(1, 1_025)) and set(indexes[1_024:]) == {0}
    journal.close()


def header(deaths: int, slots: int) -> bytes:
    return struct.pack("=8sQdii", b"kpipe-j1", 5, 0.0, deaths, slots)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 200, b"[" * 200, header(0, 1), header(0, -1), header(0, 0), header(0, 2**31 - 1) + b"x" * 100,
     header(0, 1) + struct.pack("=dqq", 1.0, 1, 1_024), header(0, 1) + struct.pack("=dqq", 1.0, 1, -1)],
)  # fmt: skip
def test_what_no_worker_has_written_tells_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "g.h.0~1-1.journal"
    path.write_bytes(data)
    assert read_live(path) in ((False, 0.0), (True, 1.0))
    mark_hung(path)
    assert data.startswith(b"kpipe") or path.read_bytes() == data, "it is not written to"
    assert dead_journals(tmp_path, "g.h") == [] and claim(tmp_path, "g.h", TP) == []


def test_no_number_of_deaths_takes_for_ever(tmp_path: Path) -> None:
    """A power of it is taken: with the largest number that fits, that never ends."""
    die(tmp_path)
    [path] = tmp_path.glob("*.journal")
    data = bytearray(path.read_bytes())
    for deaths in (2**31 - 1, -(2**31)):
        struct.pack_into("=i", data, 24, deaths)
        path.write_bytes(data)
        (dead,) = dead_journals(tmp_path, "g.h")
        assert 0 <= dead.deaths <= 100


@pytest.mark.parametrize("what", ["link", "link to /dev/zero", "fifo", "folder"])
def test_what_is_no_file_is_neither_read_nor_written(tmp_path: Path, what: str) -> None:
    outside = outside_of(tmp_path)
    path = tmp_path / "journal" / "g.h.0~1-1.journal"
    plant(path, what, outside)
    before = seen(outside)
    assert dead_journals(path.parent, "g.h") == [] and claim(path.parent, "g.h", TP) == []
    assert read_live(path) == (False, 0.0)
    mark_hung(path)
    assert seen(outside) == before


def test_a_journal_is_never_written_through_a_link(tmp_path: Path) -> None:
    outside = outside_of(tmp_path)
    before = seen(outside)
    (tmp_path / "journal").symlink_to(outside)
    journal = Journal(tmp_path / "journal", "g.h.0")
    assert journal.path is None
    journal.close()
    assert dead_journals(tmp_path / "journal", "g.h") == [] and seen(outside) == before
