"""The properties that the installed librdkafka knows, the hidden ones included."""

from __future__ import annotations

import ctypes
import re
import tempfile
from functools import cache
from pathlib import Path

import confluent_kafka

#: What librdkafka answers for a property that it does not know.
_UNKNOWN = -2
_ROW = re.compile(
    r"^([a-z0-9_.]+) +\|.*?\|.*?\|.*?\|.*?\| (?:(?:\*\*DEPRECATED\*\* )?Alias for `([a-z0-9_.]+)`)?", re.MULTILINE
)


@cache
def library() -> Path:
    """The library that confluent_kafka brings along, or the one of the system that it is linked to."""
    folder = Path(confluent_kafka.__file__).parent
    for bundled in (folder.with_name("confluent_kafka.libs"), folder / ".dylibs"):
        for path in sorted(bundled.glob("librdkafka*")):
            return path
    return Path("librdkafka.so.1")


@cache
def documented() -> dict[str, str]:
    """Each property of its CONFIGURATION.md, which the library prints itself, and what it is an alias of, or ""."""
    librdkafka, libc = ctypes.CDLL(str(library())), ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
        librdkafka.rd_kafka_conf_properties_show(stream)
        libc.fclose(stream)
        return dict(_ROW.findall(Path(file.name).read_text()))


@cache
def hidden() -> frozenset[str]:
    """What it takes and does not document: all strings in the library that look like one, tried."""
    if not library().is_file():
        return frozenset()
    librdkafka = ctypes.CDLL(str(library()))
    librdkafka.rd_kafka_conf_new.restype = ctypes.c_void_p
    words = {word.decode() for word in re.findall(rb"[a-z][a-z0-9]*(?:[._][a-z0-9]+)+(?=\0)", library().read_bytes())}
    return frozenset(name for name in words - documented().keys() if _takes(librdkafka, name))


def _takes(librdkafka: ctypes.CDLL, name: str) -> bool:
    conf, size = ctypes.c_void_p(librdkafka.rd_kafka_conf_new()), ctypes.c_size_t(0)
    try:
        text = ctypes.create_string_buffer(512)
        return librdkafka.rd_kafka_conf_set(conf, name.encode(), b"", text, 512) != _UNKNOWN or (
            librdkafka.rd_kafka_conf_get(conf, name.encode(), None, ctypes.byref(size)) != _UNKNOWN
        )
    finally:
        librdkafka.rd_kafka_conf_destroy(conf)
