"""Header names that are not UTF-8, between confluent-kafka and kpipe."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Message

from orchestrator.kafka import header_names
from orchestrator.kafka.header_names import UNREADABLE, are_plain, headers_of, writing
from orchestrator.kafka.producer import Producer, SendFailure
from orchestrator.records import Headers, Outgoing

ESCAPED = b"caf\xe9".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("name", "plain"), [("a", True), ("", True), ("caf\u00e9", True), ("\U0001f600", True), (ESCAPED, False)]
)
def test_a_name_is_plain_when_it_is_utf_8(name: str, plain: bool) -> None:
    assert are_plain((("a", None), (name, b"v"), ("b", b""))) is plain


def test_a_message_without_headers_has_none() -> None:
    messages = [Message(headers=None), Message(headers=[]), Message(headers=[("a", b"1"), ("a", None)])]
    assert headers_of(messages) == [(), (), (("a", b"1"), ("a", None))]
    assert headers_of([]) == []


def test_one_message_that_cannot_be_read_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a CPython that does not ask the registry: `headers` of such a message may not be called twice."""
    asked: list[Any] = []

    class Odd:
        @staticmethod
        def headers(message: Any) -> Any:
            asked.append(message)
            if message in ("bad", "worse"):
                raise SystemError("returned a result with an exception set")
            return [("a", b"1")]

    monkeypatch.setattr(header_names, "Message", Odd)
    messages: Any = ["good", "bad", "worse", "good", "bad"]
    good: Headers = (("a", b"1"),)
    assert headers_of(messages) == [good, UNREADABLE, UNREADABLE, good, UNREADABLE]
    assert asked == messages


def writes(seen: list[Any]) -> Callable[..., None]:
    """Encodes names as `produce` does."""

    def produce(topic: str, headers: list[tuple[str, bytes]]) -> None:
        seen.extend(name.encode() for name, _ in headers)

    return produce


def test_names_are_written_as_the_bytes_that_they_stand_for() -> None:
    seen: list[Any] = []
    headers: Headers = ((ESCAPED, b""), ("caf\u00e9", b""))
    writing(writes(seen), headers)("t", headers=list(headers))
    assert seen == [b"caf\xe9", "caf\u00e9".encode()]


def test_plain_names_are_written_by_the_client_itself() -> None:
    produce = writes([])
    assert writing(produce, (("a", b""),)) is produce


def test_what_stands_for_no_bytes_is_never_given_to_the_client() -> None:
    failures: list[SendFailure | None] = []
    producer = Producer({"bootstrap.servers": "127.0.0.1:1"})
    try:
        for name in ("\ud800", f"{ESCAPED}\udfff"):
            out = Outgoing("t", None, b"{}", ((name, b"v"),))
            producer.send(out, lambda failure, partition, offset: failures.append(failure))
            producer.post(out, lambda failure, message: failures.append(failure), lambda: False)
    finally:
        producer.close(0)
    assert [failure is not None and failure.permanent for failure in failures] == [True] * 4


def test_strict_stays_strict_when_a_call_is_over_even_if_it_failed() -> None:
    def failing(headers: Any) -> None:
        raise BufferError("full")

    with pytest.raises(BufferError):
        writing(failing, ((ESCAPED, b""),))(headers=[])
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode()
    with pytest.raises(UnicodeEncodeError):
        ESCAPED.encode()


def test_strict_stays_strict_for_other_threads_meanwhile() -> None:
    """Handlers run in other threads of a worker: what they decode is theirs."""
    lenient: list[bytes] = []
    tried = 0
    done = threading.Event()

    def decode() -> None:
        nonlocal tried
        while not done.is_set():
            try:
                lenient.append(b"\xff".decode().encode("utf-8", "surrogateescape"))
            except UnicodeDecodeError:
                tried += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=decode)
    thread.start()
    try:
        seen: list[Any] = []
        produce = writing(writes(seen), ((ESCAPED, b""),))
        while tried < 5_000 or not seen:  # the other thread may get there before this one begins
            produce("t", headers=[(ESCAPED, b"")] * 20)
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert set(seen) == {b"caf\xe9"} and not lenient
