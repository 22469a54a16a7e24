"""What a worker has in flight, in a memory-mapped file: no system call per event, and it outlives the process.

The worker writes it; whoever comes after its unclean death reads which events it was running, and the supervisor reads
how long they may. DESIGN section 5, step 8.

Layout (native byte order; read on the machine that wrote it):

    0   8s   magic
    8   Q    events that ended well in this life
    16  d    when somebody ended the process because an event was past its deadline; 0.0: nobody did
    24  i    unclean deaths in a row before this life
    28  i    slots
    32       slots of 24 bytes: d deadline (monotonic seconds, 0.0: none), q offset, q partition (0: the slot is free)
    ...      1,024 partitions of 256 bytes: H length of the topic's name, i partition, the name in UTF-8; counted from 1

A file is its writer's while that lives: it holds a lock (flock) that ends with the process, however it ends. A clean
end removes the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator.records import TopicPartition
from orchestrator.state import Folder, StateError, inner, made_inner

_MAGIC = b"kpipe-j1"
_HEADER = struct.Struct("=8sQdii")
_SLOT = struct.Struct("=dqq")
_PLACE = struct.Struct("=Hi250s")
_PLACES = 1_024
_HUNG_AT = struct.Struct("=d")
_DONE = struct.Struct("=Q")
_SUFFIX = ".journal"
#: Far above any `concurrency`.
_MOST_SLOTS = 1_000_000
_MOST_DEATHS = 100


class InFlight(NamedTuple):
    """An event that was running when its worker died. `hung`: it was past its deadline, and that is why it died.

    `proven`: it was the only one that could be running, and other events had ended well in that life.
    """

    tp: TopicPartition
    offset: int
    hung: bool
    proven: bool


class Journal:
    """A worker's own journal. `slots` is how many events it runs at once at most."""

    def __init__(self, folder: Path, name: str, slots: int = 1, deaths: int = 0) -> None:
        """`name` is the consumer group and the replica. Where there is no writing the journal is kept in memory."""
        self._slots = slots
        self._places: dict[TopicPartition, int] = {}
        self._free = list(range(slots, 0, -1))
        size = _HEADER.size + slots * _SLOT.size + _PLACES * _PLACE.size
        self.path: Path | None = folder / f"{name}~{os.getpid()}-{time.monotonic_ns()}{_SUFFIX}"
        self._fd = -1
        try:
            with made_inner(folder) as opened:
                # Under its name only once it is locked and whole: until then it would pass for a dead one.
                draft = self.path.with_suffix(".new").name
                self._fd = opened.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                os.truncate(self._fd, size)
                os.pwrite(self._fd, _HEADER.pack(_MAGIC, 0, 0.0, deaths, slots), 0)
                opened.rename(draft, self.path.name)
        except (OSError, StateError):
            self.path = None
        self._map = mmap.mmap(-1 if self.path is None else self._fd, size)
        _HEADER.pack_into(self._map, 0, _MAGIC, 0, 0.0, deaths, slots)
        #: What `begin` wrote: after the first event of a partition, each next one overwrites the first item of both.
        self.deadline, self.offset = _numbers(self._map, _HEADER.size)

    def index_of(self, tp: TopicPartition) -> int:
        """What slots call this partition; 0 when it cannot be written down (1,024 are), and then none of its events."""
        index = self._places.get(tp)
        if index is None:
            name = tp.topic.encode()
            index = len(self._places) + 1
            if index > _PLACES or len(name) > 250:
                return 0
            self._places[tp] = index
            at = _HEADER.size + self._slots * _SLOT.size + (index - 1) * _PLACE.size
            _PLACE.pack_into(self._map, at, len(name), tp.partition, name)
        return index

    def begin(self, index: int, offset: int, deadline: float) -> None:
        """The only event at a time runs now."""
        _SLOT.pack_into(self._map, _HEADER.size, deadline, offset, index)

    def end(self) -> None:
        _SLOT.pack_into(self._map, _HEADER.size, 0.0, 0, 0)

    def begin_one(self, index: int, offset: int, deadline: float) -> int:
        """One of several at a time runs now; the slot to give back to `end_one`, 0 when there are more than slots."""
        if not self._free:
            return 0
        slot = self._free.pop()
        _SLOT.pack_into(self._map, _HEADER.size + (slot - 1) * _SLOT.size, deadline, offset, index)
        return slot

    def end_one(self, slot: int) -> None:
        if slot:
            _SLOT.pack_into(self._map, _HEADER.size + (slot - 1) * _SLOT.size, 0.0, 0, 0)
            self._free.append(slot)

    def ended_well(self, events: int) -> None:
        """So many events ended well in this life so far."""
        _DONE.pack_into(self._map, 8, events)

    def hung(self) -> None:
        """The process is about to be ended because of an event past its deadline."""
        _HUNG_AT.pack_into(self._map, 16, time.monotonic())

    def close(self) -> None:
        """A clean end: nothing is in flight, or nobody is to be blamed for it."""
        if self.path is not None:
            with contextlib.suppress(OSError, StateError), inner(self.path.parent) as folder:
                if folder is not None:
                    folder.remove(self.path.name)
            os.close(self._fd)
            self.path = None


def _numbers(data: mmap.mmap, at: int) -> tuple[memoryview[float], memoryview[int]]:
    """The deadline and the offset of the slot there, as numbers that can be set."""
    view = memoryview(data)
    return view[at : at + 8].cast("d"), view[at + 8 : at + 16].cast("q")


class Dead(NamedTuple):
    """The journal of a life that ended uncleanly."""

    path: Path
    name: str
    done: int
    hung_at: float
    deaths: int
    slots: tuple[tuple[int, float, TopicPartition, int], ...]
    capacity: int


def dead_journals(folder: Path, group: str) -> list[Dead]:
    """The journals of the group's workers that died uncleanly on this machine, with something in flight.

    Those with nothing in flight are removed. Never raises: a journal that cannot be read tells nothing.
    """
    found: list[Dead] = []
    with contextlib.suppress(OSError, StateError), inner(folder) as opened:
        if opened is None:
            return []
        for file in opened.names():
            name = file.partition("~")[0]
            if not file.endswith(_SUFFIX) or name.rpartition(".")[0] != group:
                continue
            with contextlib.suppress(OSError, StateError), _owned(opened, file) as fd:
                dead = _read(folder / file, name, fd)
                if dead is None or not dead.slots:
                    opened.remove(file)
                else:
                    found.append(dead)
    return found


def claim(folder: Path, group: str, tp: TopicPartition) -> list[InFlight]:
    """The events of `tp` that dead workers of the group were running; told once, to the first who asks."""
    found: list[InFlight] = []
    with contextlib.suppress(OSError, StateError), inner(folder) as opened:
        if opened is None:
            return []
        for dead in dead_journals(folder, group):
            found += _claimed(opened, dead, tp)
    return found


def _claimed(folder: Folder, dead: Dead, tp: TopicPartition) -> list[InFlight]:
    found = []
    mine = [slot for slot in dead.slots if slot[2] == tp]
    with contextlib.suppress(OSError, StateError), _owned(folder, dead.path.name) as fd:
        for number, deadline, _, offset in mine:
            os.pwrite(fd, _SLOT.pack(0.0, 0, 0), _HEADER.size + number * _SLOT.size)
            hung = 0.0 < deadline <= dead.hung_at
            found.append(InFlight(tp, offset, hung, hung and dead.capacity == 1 and dead.done > 0))
        if len(mine) == len(dead.slots):
            folder.remove(dead.path.name)
    return found


def read_live(path: Path) -> tuple[bool, float]:
    """Whether an event runs by this journal, and the earliest deadline of those that do (0.0: none has one)."""
    try:
        with _opened(path, os.O_RDONLY) as fd:
            used = [deadline for _, deadline, _, _ in _slots(fd, _header(fd)[-1], with_places=False)]
    except (OSError, StateError, ValueError):
        return False, 0.0
    return bool(used), min((d for d in used if d), default=0.0)


def mark_hung(path: Path) -> None:
    """Somebody else is about to end the process because of an event past its deadline."""
    with contextlib.suppress(OSError, StateError, ValueError), _opened(path, os.O_RDWR) as fd:
        _header(fd)
        os.pwrite(fd, _HUNG_AT.pack(time.monotonic()), 16)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    with inner(path.parent) as folder:
        if folder is None:
            raise FileNotFoundError(path)
        fd = folder.open(path.name, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _owned(folder: Folder, name: str) -> Iterator[int]:
    """The file of a writer that is dead; raises BlockingIOError while it lives. Several may look at once: each of
    them takes what is of its own partitions.
    """
    fd = folder.open(name, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def _read(path: Path, name: str, fd: int) -> Dead | None:
    """None for what no worker has written."""
    try:
        done, hung_at, deaths, capacity = _header(fd)
        return Dead(path, name, done, hung_at, deaths, tuple(_slots(fd, capacity, with_places=True)), capacity)
    except ValueError:
        return None


def _header(fd: int) -> tuple[int, float, int, int]:
    """Events that ended well, the time of `hung`, deaths, slots. Raises `ValueError` for what no worker has written."""
    data = os.pread(fd, _HEADER.size, 0)
    if len(data) < _HEADER.size or data[:8] != _MAGIC:
        raise ValueError("not a journal")
    _, done, hung_at, deaths, slots = _HEADER.unpack(data)
    if not 0 < slots <= _MOST_SLOTS:
        raise ValueError("not a journal")
    # So many deaths make no difference any more, and a power of their number is taken.
    return done, hung_at, min(max(deaths, 0), _MOST_DEATHS), slots


def _slots(fd: int, slots: int, *, with_places: bool) -> Iterator[tuple[int, float, TopicPartition, int]]:
    """The used slots: number, deadline, partition, offset. Raises `ValueError` for a file that is too short."""
    data = os.pread(fd, slots * _SLOT.size, _HEADER.size)
    if len(data) < slots * _SLOT.size:
        raise ValueError("not a journal")
    places = _HEADER.size + slots * _SLOT.size
    for number, (deadline, offset, index) in enumerate(_SLOT.iter_unpack(data)):
        if not 0 < index <= _PLACES:
            continue
        place = TopicPartition("", 0)
        if with_places:
            written = os.pread(fd, _PLACE.size, places + (index - 1) * _PLACE.size)
            if len(written) < _PLACE.size:
                raise ValueError("not a journal")
            length, partition, name = _PLACE.unpack(written)
            place = TopicPartition(name[:length].decode(), partition)
        yield number, deadline, place, offset
