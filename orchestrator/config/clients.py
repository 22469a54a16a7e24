"""Limits of Kafka clients that a user sets below what the topics take: such records could be neither sent nor read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

#: librdkafka property -> the kind of client that it limits, and its unit in bytes.
LIMITS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "message.max.bytes": ("producer", 1),
        "queue.buffering.max.kbytes": ("producer", 1024),
        "receive.message.max.bytes": ("consumer", 1),
    }
)


def narrower(kind: str, properties: Mapping[str, str], largest: int) -> Iterator[tuple[str, int]]:
    """Each property in the section `kafka.<kind>` that lets less than `largest` bytes through, with its bytes."""
    for name, (limited, unit) in LIMITS.items():
        text = properties.get(name, "")
        if kind in ("client", limited) and text.isdecimal() and int(text) * unit < largest:
            yield name, int(text) * unit
