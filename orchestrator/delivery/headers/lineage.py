"""Where an event came from: the headers that a worker stamps on what events cause, and how they are read.

`kpipe-source` is `<group>/<topic>/<partition>/<offset>/<attempt>` of the event that caused this one; `traceparent` is
that of W3C Trace Context (https://www.w3.org/TR/trace-context/): `00-<trace id>-<span id>-<flags>`. Both are built
once for an event, however many outputs it has: this is on the path of every event (docs/headers.md).
"""

from __future__ import annotations

import hashlib
import re
from binascii import hexlify
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from orchestrator.records import Headers, Record, TopicPartition

SOURCE = "kpipe-source"
TRACEPARENT = "traceparent"
#: Passed on from the event to what it caused as they are, unless the handler sets them.
PASSED_ON = frozenset({"tracestate", "baggage"})

_SAMPLED = b"01"
_64_BITS = (1 << 64) - 1
_TWO_NUMBERS = Struct(">QQ")
# Later versions may add fields behind the flags; `ff` and ids of zeros are invalid (W3C Trace Context, 3.2.2).
_PARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(-.*)?",
    re.DOTALL,
)


class CausingEvent(NamedTuple):
    """The event that caused another: who handled it, where it is, and which attempt it was (from 1)."""

    group: str
    place: TopicPartition
    offset: int
    attempt: int


def stamp(group: str, record: Record, attempt: int, chance: int) -> Headers:
    """The headers of everything that one run of `record` causes; `chance` is 64 random bits."""
    topic, partition, offset, timestamp = record[:4]
    before, traces = _place(group, topic, partition)
    source = f"{before}{offset}/{attempt}".encode()
    if not record.headers:
        mixed = (timestamp << 20 ^ offset) & _64_BITS
        return ((SOURCE, source), (TRACEPARENT, f"00-{traces}{mixed:016x}-{chance or 1:016x}-01".encode()))
    trace, flags = None, _SAMPLED
    passed: Headers = ()
    for name, value in record.headers:
        if name == TRACEPARENT and value is not None and trace is None:
            found = _PARENT.fullmatch(value)
            if found is not None:
                trace, flags = found["trace"], found["flags"]
        elif name in PASSED_ON:
            passed += ((name, value),)
    if trace is None:
        trace = derived_trace(record).encode()
    return ((SOURCE, source), (TRACEPARENT, b"00-%b-%016x-%b" % (trace, chance or 1, flags)), *passed)


def stamper(group: str, topic: str, partition: int, chance: int) -> Callable[[int, int], dict[str, bytes]]:
    """`stamp` for the first run of records of one partition that have no headers, from timestamp and offset.

    `chance` is 64 random bits: of them, each offset has a span id of its own.
    """
    before, traces = _place(group, topic, partition)
    source, trace = before.encode(), f"00-{traces}".encode()
    pack = _TWO_NUMBERS.pack

    def of(timestamp: int, offset: int) -> dict[str, bytes]:
        ids = hexlify(pack((timestamp << 20 ^ offset) & _64_BITS, chance ^ offset or 1), b"-", 8)
        return {SOURCE: b"%b%d/1" % (source, offset), TRACEPARENT: b"%b%b-01" % (trace, ids)}

    return of


@lru_cache(maxsize=4096)
def _place(group: str, topic: str, partition: int) -> tuple[str, str]:
    """What all sources of a partition begin with, and the first half of the trace ids that are derived there."""
    half = hashlib.blake2b(f"{topic}/{partition}".encode(), digest_size=8).hexdigest()
    return f"{group}/{topic}/{partition}/", half


def stamped(own: Headers, stamp: Headers) -> Headers:
    """A handler's own headers and the stamp: its own win, save for `kpipe-source`, which is a fact."""
    if not own:
        return stamp
    names = {name for name, _ in own}
    kept = tuple(h for h in own if h[0] != SOURCE)
    return kept + tuple(h for h in stamp if h[0] == SOURCE or h[0] not in names)


def begun(headers: Headers, chance: int) -> Headers:
    """The headers of an event that nothing caused: with a `traceparent` of its own, unless they have one.

    `chance` is 192 random bits.
    """
    if any(name == TRACEPARENT for name, _ in headers):
        return headers
    return (*headers, (TRACEPARENT, new_traceparent(chance)))


def new_traceparent(chance: int) -> bytes:
    """The beginning of a trace; `chance` is 192 random bits."""
    return b"00-%032x-%016x-%b" % ((chance >> 64) or 1, (chance & 0xFFFF_FFFF_FFFF_FFFF) or 1, _SAMPLED)


def trace_of(headers: Headers) -> str | None:
    """The trace id (32 hexadecimal digits) that these headers tell of."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None:
            found = _PARENT.fullmatch(value)
            if found is not None:
                return found["trace"].decode()
    return None


def derived_trace(record: Record) -> str:
    """The trace id of an event that came without one: every handler of it comes to the same."""
    _, half = _place("", record.topic, record.partition)
    return f"{half}{(record.timestamp << 20 ^ record.offset) & _64_BITS:016x}"


def source_of(headers: Headers) -> CausingEvent | None:
    """What `kpipe-source` tells; None when there is none. Never raises: headers can be anybody's."""
    for name, value in headers:
        if name == SOURCE and value is not None:
            # Topics have no slash in their names; a group might.
            parts = value.decode("utf-8", "replace").rsplit("/", 4)
            if len(parts) == 5 and all(re.fullmatch(r"[0-9]{1,18}", part, re.ASCII) for part in parts[2:]):
                return CausingEvent(parts[0], TopicPartition(parts[1], int(parts[2])), int(parts[3]), int(parts[4]))
    return None
