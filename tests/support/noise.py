"""Records as nobody should write them, and everybody may: random bytes wherever Kafka takes bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from random import Random

from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from tests.support.foreign import Foreign, RawHeaders, send
from tests.support.worker import Project

LARGE = 30_000
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
BATCHES = (1, 7, 1_000)
LATEST = (1 << 63) - 1

_NAMES = (
    b"a", b"A", b"trace", "caf\u00e9".encode(), b"caf\xe9", b"\xff", b"\xed\xa0\x80", b"\xc3", b"", b" ", b"a\nb:c",
    b"a\0b", b"\x1b[31m",
    b"traceparent", b"tracestate", b"baggage", b"ce_id", b"ce_type", b"ce_caf\xe9", "ce_\u00e9".encode(), b"ce_",
    b"kpipe-source", b"kpipe-", b"kpipe-\xff", b"kpipe-unreadable-headers", b"kpipe-dlq-\xff", b"kpipe-redrive-\xff",
)  # fmt: skip
_LETTER = (
    "version", "id", "topic", "partition", "offset", "timestamp", "group", "pipeline", "handler", "reason",
    "error-type", "error-message", "stack", "violations", "attempts", "first-failed-at", "last-failed-at", "exit",
    "event-id", "fingerprint", "redrive-count", "truncated",
)  # fmt: skip
_REDRIVEN = ("id", "topic", "partition", "offset", "timestamp")
_NUMBERS = (b"0", b"1", b"-1", b"7", b"2147483648", b"999999999999999999", b"9223372036854775807", b"9" * 40,
            b"9" * 5_000, b"1e5", b"0x1", b" 1", b"1_0", "\u0661".encode(), b"NaN")  # fmt: skip
_VIOLATIONS = (
    b"[]", b"{}", b"null", b"1", b'"x"', b"[1]", b"[[]]", b'[{"path":1,"message":null}]', b"[" * 5_000,
    b'[{"path":"\\ud800","message":"\\u0000\\udfff"}]', b'[{"path":"$.a"}]', b'[{"path":' + b"9" * 5_000 + b"}]",
)  # fmt: skip
_DOCUMENTS = (
    b"null", b"true", b"0", b'""', b"[]", b"{}", b" {} ", b"\xef\xbb\xbf{}", b"{", b"nul", b"NaN", b"[1e999]", b"-0",
    b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b'{"\\udfff":1}', b'{"a":"\\u0000"}', b'{"a":"\xff"}', b"[" * 3_000,
    b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b"9" * 5_000, b'{"n":1' + b"0" * 400 + b"}",
    b"1e-9999", b"\xe2\x80\xa8", b'"\xe2\x80\xa8\r\n"', b"\0", b"{}\0", b"{}{}", b"'a'",
)  # fmt: skip


class Noise:
    """Reproducible by `seed`."""

    def __init__(self, seed: int, group: str, topics: Sequence[str]) -> None:
        """`group` and `topics` (the cluster's names) are what forged headers tell of."""
        self._random = Random(seed)
        self._group = group
        self._topics = topics

    def records(self, topic: str, partitions: int, count: int) -> list[Foreign]:
        pick = self._random
        return [
            Foreign(topic, self._key(), self._value(), self._headers(), pick.randrange(partitions), self._time())
            for _ in range(count)
        ]

    def _bytes(self, most: int = 40) -> bytes:
        return self._random.randbytes(self._random.randrange(most))

    def _any(self, *ways: Callable[[], bytes | None]) -> bytes | None:
        return self._random.choice(ways)()

    def _large(self) -> bytes:
        return self._random.choice((self._random.randbytes(LARGE), b"x" * LARGE, b"\xff" * LARGE))

    def _key(self) -> bytes | None:
        if self._random.random() < 0.01:
            return self._large()
        return self._any(lambda: None, lambda: b"", self._bytes, lambda: b"k%d" % self._random.randrange(9))

    def _value(self) -> bytes | None:
        dice = self._random.random()
        if dice < 0.1:
            return None
        if dice < 0.2:
            return self._bytes()
        if dice < 0.21:
            return self._large()
        if dice < 0.4:
            return self._random.choice(_DOCUMENTS)
        return json.dumps(self._event()).encode()

    def _event(self) -> dict[str, object]:
        pick = self._random
        event: dict[str, object] = {"n": pick.randrange(1 << 40)}
        if pick.random() < 0.5:
            event["id"] = pick.choice(
                [pick.randrange(300), str(pick.randrange(300)), None, [], {}, 1.5, "", "x" * 5_000]
            )
        if pick.random() < 0.2:
            event["do"] = pick.choice(["reject", "raise", "odd", "nothing"])
        if pick.random() < 0.02:
            event["large"] = "\u00e9" * LARGE
        return event

    def _time(self) -> int:
        """Milliseconds: now, none, the beginning, the recent past, and years that no calendar has."""
        return self._random.choice((0, 0, -1, 1, 1_700_000_000_000, 1 << 45, 253_402_300_800_000, LATEST))

    def _headers(self) -> RawHeaders:
        pick = self._random
        dice = pick.random()
        if dice < 0.2:
            return ()
        if dice < 0.35:
            return self._forged(b"kpipe-dlq-", _LETTER)
        if dice < 0.45:
            return self._forged(b"kpipe-redrive-", _REDRIVEN)
        if dice < 0.46:
            return tuple((b"many", b"%d" % n) for n in range(1_000))
        return tuple((self._name(), self._header()) for _ in range(pick.randrange(1, 7)))

    def _name(self) -> bytes:
        if self._random.random() < 0.01:
            return self._large().replace(b"\0", b"0")
        return self._bytes(12) if self._random.random() < 0.3 else self._random.choice(_NAMES)

    def _header(self) -> bytes | None:
        if self._random.random() < 0.01:
            return self._large()
        return self._any(lambda: None, lambda: b"", self._bytes, self._source, self._parent, self._number)

    def _forged(self, prefix: bytes, names: Sequence[str]) -> RawHeaders:
        some = [name for name in names if self._random.random() < 0.8]
        return tuple((prefix + name.encode(), self._claim(name)) for name in some)

    def _claim(self, name: str) -> bytes | None:
        if self._random.random() < 0.15:
            return self._header()
        if name == "violations":
            return self._random.choice(_VIOLATIONS)
        if name in ("topic", "id", "group"):
            topic = self._random.choice((*self._topics, "", "none", "a/b", "\u00e9")).encode()
            return b"%b/%b/0/%d" % (self._group.encode(), topic, self._random.randrange(99)) if name == "id" else topic
        if name in ("partition", "offset", "timestamp", "attempts", "redrive-count"):
            return self._number()
        return self._random.choice((b"rejected", b"decode", b"x", b"\xff", b"\x1b[2J", b"a\nb"))

    def _number(self) -> bytes:
        return self._random.choice(_NUMBERS)

    def _source(self) -> bytes:
        place = self._random.choice((*self._topics, "none")).encode()
        return b"%b/%b/%b/%b/1" % (self._group.encode(), place, self._number(), self._number())

    def _parent(self) -> bytes:
        return self._random.choice(
            (
                b"00-%032x-%016x-01" % (self._random.randrange(1, 9), self._random.randrange(1, 9)),
                b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-00",
                b"ff-\xff",
            )
        )


def allow(project: Project, topics: Iterable[str]) -> None:
    """Let the topics take any time: Kafka 4 refuses those that are more than an hour ahead."""
    admin = ClusterAdmin(client_properties(project.pipeline.kafka, "admin", project.bootstrap))
    limits = {"message.timestamp.after.max.ms": str(LATEST)}
    assert not any(admin.alter(dict.fromkeys(topics, limits)).values())


def write(bootstrap: str, records: Sequence[Foreign]) -> None:
    """Send them in their order, shared among producers with all kinds of compression and batches."""
    kinds = [(codec, size) for codec in COMPRESSIONS for size in BATCHES]
    share = -(-len(records) // len(kinds))
    for (codec, size), at in zip(kinds, range(0, len(records), share), strict=False):
        batches = {"batch.num.messages": str(size), "linger.ms": "5", "enable.idempotence": "true"}
        send(bootstrap, records[at : at + share], {"compression.codec": codec, **batches})
