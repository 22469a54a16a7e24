"""A producer as other people's tools have one: whatever bytes Kafka takes, also as the names of headers.

By librdkafka's own C API, out of the library that confluent-kafka brings along: confluent-kafka itself writes names as
UTF-8 only, and kpipe's own producer is what the tests are about.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import cimpl

#: Names and values as bytes; a value may be null.
RawHeaders = tuple[tuple[bytes, bytes | None], ...]


class Foreign(NamedTuple):
    """One record. `partition` -1 lets the key decide; `timestamp` in milliseconds, 0 for now, -1 for none."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RawHeaders = ()
    partition: int = -1
    timestamp: int = 0


class _Memory(ctypes.Structure):
    _fields_ = [("ptr", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class _Union(ctypes.Union):
    _fields_ = [
        ("cstr", ctypes.c_char_p),
        ("i", ctypes.c_int),
        ("i32", ctypes.c_int32),
        ("i64", ctypes.c_int64),
        ("mem", _Memory),
        ("headers", ctypes.c_void_p),
        ("pad", ctypes.c_char * 64),
    ]


class _Argument(ctypes.Structure):
    """`rd_kafka_vu_t` of rdkafka.h."""

    _fields_ = [("vtype", ctypes.c_int), ("u", _Union)]


_TOPIC, _PARTITION, _VALUE, _KEY, _FLAGS, _TIMESTAMP, _HEADERS = 1, 3, 4, 5, 7, 8, 10
_COPY, _BLOCK = 0x2, 0x4
_PRODUCER = 0

# The symbols of a library that another one needs are found in that one.
_lib: Any = ctypes.CDLL(cimpl.__file__)
_P, _S, _N = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
_REPORT = ctypes.CFUNCTYPE(None, _P, ctypes.POINTER(ctypes.c_int), _P)
for _name, _result, _arguments in (
    ("rd_kafka_conf_new", _P, ()),
    ("rd_kafka_conf_set", ctypes.c_int, (_P, _S, _S, _S, _N)),
    ("rd_kafka_conf_set_dr_msg_cb", None, (_P, _REPORT)),
    ("rd_kafka_new", _P, (ctypes.c_int, _P, _S, _N)),
    ("rd_kafka_headers_new", _P, (_N,)),
    ("rd_kafka_header_add", ctypes.c_int, (_P, _S, ctypes.c_ssize_t, _S, ctypes.c_ssize_t)),
    ("rd_kafka_produceva", _P, (_P, ctypes.POINTER(_Argument), _N)),
    ("rd_kafka_error_string", _S, (_P,)),
    ("rd_kafka_flush", ctypes.c_int, (_P, ctypes.c_int)),
    ("rd_kafka_destroy", None, (_P,)),
):
    _function = getattr(_lib, _name)
    _function.restype, _function.argtypes = _result, _arguments


class ForeignProducer:
    """`properties` are librdkafka's."""

    def __init__(self, bootstrap: str, properties: Mapping[str, str] = {}) -> None:
        why = ctypes.create_string_buffer(512)
        conf = _lib.rd_kafka_conf_new()
        for name, value in {"bootstrap.servers": bootstrap, **properties}.items():
            assert _lib.rd_kafka_conf_set(conf, name.encode(), value.encode(), why, len(why)) == 0, why.value
        #: librdkafka's codes of what was refused.
        self.refused: list[int] = []
        self._report = _REPORT(self._reported)
        _lib.rd_kafka_conf_set_dr_msg_cb(conf, self._report)
        self._rk = _lib.rd_kafka_new(_PRODUCER, conf, why, len(why))
        assert self._rk, why.value

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = _lib.rd_kafka_flush(self._rk, 30_000)
        _lib.rd_kafka_destroy(self._rk)
        assert kind is not None or (left, self.refused) == (0, []), "Kafka did not acknowledge what was sent"

    def _reported(self, _: object, message: Any, __: object) -> None:
        if message[0]:  # `err` is what `rd_kafka_message_t` begins with
            self.refused.append(message[0])

    def send(self, records: Iterable[Foreign]) -> None:
        for record in records:
            self._send(record)

    def _send(self, record: Foreign) -> None:
        headers = _lib.rd_kafka_headers_new(len(record.headers))
        for name, value in record.headers:
            _lib.rd_kafka_header_add(headers, name, len(name), value, -1 if value is None else len(value))
        arguments = (_Argument * 7)()
        arguments[0].vtype, arguments[0].u.cstr = _TOPIC, record.topic.encode()
        arguments[1].vtype, arguments[1].u.i32 = _PARTITION, record.partition
        arguments[2].vtype, arguments[2].u.mem = _VALUE, _Memory(record.value, len(record.value or b""))
        arguments[3].vtype, arguments[3].u.mem = _KEY, _Memory(record.key, len(record.key or b""))
        arguments[4].vtype, arguments[4].u.i = _FLAGS, _COPY | _BLOCK
        arguments[5].vtype, arguments[5].u.i64 = _TIMESTAMP, record.timestamp
        arguments[6].vtype, arguments[6].u.headers = _HEADERS, headers
        error = _lib.rd_kafka_produceva(self._rk, arguments, len(arguments))
        assert not error, _lib.rd_kafka_error_string(error)


def send(bootstrap: str, records: Iterable[Foreign], properties: Mapping[str, str] = {}) -> None:
    """Produce these and wait for their acknowledgement."""
    with ForeignProducer(bootstrap, properties) as producer:
        producer.send(records)
