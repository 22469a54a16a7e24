"""Records whose headers have names that are not UTF-8, as other people's tools write them: events like others."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as RdPartition

from orchestrator.kafka.checked import checked
from tests.support.foreign import Foreign, RawHeaders, send
from tests.support.worker import Project

pytestmark = pytest.mark.kafka

YAML = """
pipeline: test
topics:
  in: {key: k, partitions: 1, dlq: in.dlq}
  out: {key: k, partitions: 1}
handlers:
  h:
    python: code:handle
    consumes: [in]
    produces: [out]
    dlq: h.dlq
    guarantee: GUARANTEE
"""
#: Passes every header on; what has `no` in it is rejected.
CODE = """
from orchestrator import Emit, Reject

def handle(event):
    if "no" in event.value:
        raise Reject("no")
    return Emit("out", event.value, headers=event.headers)
"""
GUARANTEES = ("at-least-once", "exactly-once")
#: More than the seven runs after which CPython 3.11 specialises a call.
MANY = 50
STRANGE: RawHeaders = (
    (b"caf\xe9", b"v"),
    (b"", b""),
    (b"\xff\xfe", None),
    (b"caf\xe9", b"\xff" * 300),
    ("caf\u00e9".encode(), b"plain"),
    (b"\xed\xa0\x80", b"a surrogate"),
)


def plain(project: Project, numbers: range) -> list[Foreign]:
    return [Foreign(project.name("in"), b"k", b'{"k":"k","n":%d}' % n, ((b"a", b"b"),)) for n in numbers]


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_they_are_handled_passed_on_and_dead_lettered_byte_for_byte(tmp_path: Path, kafka: str, guarantee: str) -> None:
    project = Project(tmp_path, kafka, YAML.replace("GUARANTEE", guarantee), {"code.py": CODE})
    name = project.name("in")
    strange = [
        Foreign(name, b"k", b'{"k":"k","n":-1}', STRANGE),
        Foreign(name, b"k", b'{"k":"k","no":1}', STRANGE),
        Foreign(name, b"k", b"{", STRANGE),
    ]
    with project.worker("h") as worker:
        send(kafka, plain(project, range(MANY)))
        worker.wait_settled(MANY)
        send(kafka, [*strange, *plain(project, range(MANY, 2 * MANY))])
        counts = worker.wait_settled(2 * MANY + 3)
        assert worker.terminate() == 0
    assert counts == {"in": 2 * MANY + 3, "done": 2 * MANY + 1, "dead_lettered": 2, "skipped": 0, "in_flight": 0}
    [passed] = [r for r in project.read("out") if r.value == b'{"k":"k","n":-1}']
    assert raw(passed.headers)[: len(STRANGE)] == STRANGE
    decoded, rejected = project.read("in.dlq"), project.read("h.dlq")
    assert [r.value for r in (*rejected, *decoded)] == [b'{"k":"k","no":1}', b"{"]
    for letter in (*rejected, *decoded):
        assert raw(letter.headers)[: len(STRANGE)] == STRANGE


def raw(headers: tuple[tuple[str, bytes | None], ...]) -> RawHeaders:
    return tuple((name.encode("utf-8", "surrogateescape"), value) for name, value in headers)


def test_an_error_comes_up_where_the_client_was_called(tmp_path: Path, kafka: str) -> None:
    """The client's own `headers` returns something and raises; `checked` and `map` see it in a loop that is warm."""
    project = Project(tmp_path, kafka, YAML.replace("GUARANTEE", "at-least-once"), {"code.py": CODE})
    send(kafka, [*plain(project, range(MANY)), Foreign(project.name("in"), b"k", b"{}", STRANGE)])
    send(kafka, plain(project, range(5)))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "none", "auto.offset.reset": "earliest"})
    consumer.assign([RdPartition(project.name("in"), 0, 0)])
    messages = consumer.consume(MANY + 6, 30)
    raised = []
    for message in messages:
        try:
            checked(message.headers)
        except SystemError:
            raised.append(message.offset())
    consumer.close()
    assert len(messages) == MANY + 6 and raised == [MANY]
