"""A topic that is deleted and made anew under running workers: every event of the new one is handled once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as RdPartition
from confluent_kafka.admin import AdminClient, NewTopic

from orchestrator.records import Outgoing
from tests.support.kept import Kept, kept
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

YAML = """
pipeline: anew
defaults: {topic: {partitions: 3, replication: REPLICAS}, handler: {dedup: off}}
topics:
  in: {key: k, dlq: in.dlq}
  out: {key: k, dlq: out.dlq}
handlers:
  h:
    python: code:handle
    consumes: [in]
    produces: [out]
    dlq: h.dlq
    retry: {attempts: 2, backoff: 50ms}
    guarantee: GUARANTEE
"""
CODE = """
from orchestrator import Emit, Reject

def handle(event):
    if event.value.get("do") == "reject":
        raise Reject("never")
    return Emit("out", {"k": event.value["k"], "n": event.value["n"]})
"""
BOTH = ["at-least-once", "exactly-once"]
Make = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Make:
    def build(guarantee: str, yaml: str = YAML, client: str = "") -> Project:
        text = yaml.replace("GUARANTEE", guarantee).replace("REPLICAS", "1")
        return Project(tmp_path, kafka, text, {"code.py": CODE}, client)

    return build


def make_anew(project: Project, topic: str, replicas: int = 1, seen_gone: Callable[[], bool] = lambda: True) -> None:
    """Delete the topic and make it again: as soon as Kafka lets us, and once it is `seen_gone`."""
    make_topic_anew(project, project.name(topic), project.pipeline.topics[topic].partitions, replicas, seen_gone)


def make_topic_anew(
    project: Project, name: str, partitions: int, replicas: int = 1, seen_gone: Callable[[], bool] = lambda: True
) -> None:
    """The same of any topic, by the cluster's name."""
    admin = AdminClient({"bootstrap.servers": project.bootstrap})
    admin.delete_topics([name])[name].result(10)
    until("it is seen to be gone", seen_gone, 60)

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(name, partitions, replicas)])[name].result(10)
        except KafkaException:  # it is still being deleted
            return False
        return True

    until(f"{name} is made again", made)


def fill(project: Project, topic: str, first: int, counts: list[int]) -> list[int]:
    """So many events for each partition, numbered from `first` on; their numbers."""
    outs, number = [], first
    for partition, count in enumerate(counts):
        for _ in range(count):
            value = json.dumps({"k": f"p{partition}", "n": number}).encode()
            outs.append(Outgoing(project.name(topic), f"p{partition}".encode(), value, (), partition))
            number += 1
    project.produce(outs)
    return list(range(first, number))


def commit(project: Project, handler: str, topic: str, commits: dict[int, tuple[int, str]]) -> None:
    """Commit these offsets and metadata, by partition, as a former member would that had not heard of anything."""
    group = project.pipeline.handlers[handler].group
    other = Consumer({"bootstrap.servers": project.bootstrap, "group.id": group, "enable.auto.commit": False})
    offsets = [RdPartition(project.name(topic), p, offset, text) for p, (offset, text) in commits.items()]
    other.commit(offsets=offsets, asynchronous=False)
    other.close()


def handled(project: Project) -> Counter[int]:
    return Counter(value["n"] for value in project.values("out"))


def wait_handled(project: Project, numbers: list[int], *workers: Kept) -> None:
    """Until all of `numbers` are in the output."""

    def done() -> bool:
        for worker in workers:
            worker.check()
        return set(numbers) <= set(handled(project))

    until("every event is handled", done, 120)


@pytest.mark.parametrize("guarantee", BOTH)
@pytest.mark.parametrize("refill", [[2, 1, 3], [4, 4, 4], [40, 13, 4], [0, 0, 9]])
def test_every_event_of_the_new_topic_is_handled_once(make: Make, guarantee: str, refill: list[int]) -> None:
    project = make(guarantee)
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        old = fill(project, "in", 0, [4, 4, 4])
        wait_handled(project, old, worker)
        make_anew(project, "in")
        new = fill(project, "in", 100, refill)
        wait_handled(project, new, worker)
        more = fill(project, "in", 1000, [5, 5, 5])
        wait_handled(project, more, worker)
        assert worker.terminate() == 0
    assert handled(project) == Counter(old + new + more)
    assert worker.log.count("was deleted and made anew") == 1


@pytest.mark.parametrize("guarantee", BOTH)
def test_with_the_consumer_protocol(make: Make, guarantee: str) -> None:
    """KIP-848: the group's coordinator tells topics apart by their ids itself."""
    project = make(guarantee, client="consumer: {group.protocol: consumer}")
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        old = fill(project, "in", 0, [4, 4, 4])
        wait_handled(project, old, worker)
        make_anew(project, "in")
        new = fill(project, "in", 100, [9, 4, 2])
        wait_handled(project, new, worker)
        assert worker.terminate() == 0
    assert handled(project) == Counter(old + new)


@pytest.mark.parametrize("guarantee", BOTH)
def test_three_workers(make: Make, guarantee: str) -> None:
    project = make(guarantee)
    with kept(project, "h") as a, kept(project, "h", 1) as b, kept(project, "h", 2) as c:
        for worker in (a, b, c):
            worker.worker.wait_ready()
        old = fill(project, "in", 0, [4, 4, 4])
        wait_handled(project, old, a, b, c)
        make_anew(project, "in")
        new = fill(project, "in", 100, [9, 4, 2])
        wait_handled(project, new, a, b, c)
        more = fill(project, "in", 1000, [5, 5, 5])
        wait_handled(project, more, a, b, c)
        assert {worker.terminate() for worker in (a, b, c)} == {0}
    assert set(handled(project)) == set(old + new + more)
    assert guarantee == "at-least-once" or handled(project) == Counter(old + new + more)


@pytest.mark.parametrize("guarantee", BOTH)
def test_events_of_the_old_topic_that_wait_are_gone_with_it_and_told(make: Make, guarantee: str) -> None:
    """A slow handler: the old topic's events and the new one's are in the worker's queue one behind the other."""
    project = make(guarantee, YAML.replace("partitions: 3", "partitions: 1"))
    code = CODE.replace("def handle(event):", "import time\n\ndef handle(event):\n    time.sleep(0.05)")
    (project.folder / "code.py").write_text(code)
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        old = fill(project, "in", 0, [60])
        until("some are handled", lambda: len(handled(project)) >= 10)
        make_anew(project, "in")
        new = fill(project, "in", 100, [90])
        wait_handled(project, new, worker)
        assert worker.terminate() == 0
    counts = handled(project)
    assert [counts[number] for number in new] == [1] * len(new)
    assert set(counts) - set(new) <= set(old)


@pytest.mark.parametrize("guarantee", BOTH)
def test_dlq_and_output_made_anew(make: Make, guarantee: str) -> None:
    """What is written goes on into the new topics."""
    project = make(guarantee)
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        wait_handled(project, fill(project, "in", 0, [4, 4, 4]), worker)
        project.send("in", [{"k": "a", "n": -1, "do": "reject"}])
        until("a letter", lambda: len(project.read("h.dlq")) == 1)
        for topic in ("out", "h.dlq"):
            make_anew(project, topic)
        more = fill(project, "in", 100, [7, 7, 7])
        project.send("in", [{"k": "a", "n": -2, "do": "reject"}, {"k": "b", "n": -3, "do": "reject"}])
        wait_handled(project, more, worker)
        until("letters in the new DLQ", lambda: len(project.read("h.dlq")) == 2, 60)
        assert worker.terminate() == 0
    assert handled(project) == Counter(more)


@pytest.mark.parametrize("guarantee", BOTH)
def test_a_topic_that_is_seen_to_be_gone_and_comes_back(make: Make, guarantee: str) -> None:
    """The group takes the partitions away, and gives those of the new topic."""
    project = make(guarantee)
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        old = fill(project, "in", 0, [4, 4, 4])
        wait_handled(project, old, worker)
        make_anew(project, "in", seen_gone=lambda: any(s["type"] == "not-ready" for s in worker.worker.said))
        new = fill(project, "in", 100, [2, 4, 9])
        wait_handled(project, new, worker)
        assert worker.terminate() == 0
    assert handled(project) == Counter(old + new)


def test_from_latest_loses_nothing_of_a_topic_made_anew(make: Make) -> None:
    project = make("at-least-once", YAML.replace("consumes: [in]", "consumes: [in]\n    from: latest"))
    skipped = fill(project, "in", 0, [2, 2, 2])
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        old = fill(project, "in", 10, [4, 4, 4])
        wait_handled(project, old, worker)
        make_anew(project, "in")
        new = fill(project, "in", 100, [3, 9, 0])
        wait_handled(project, new, worker)
        assert worker.terminate() == 0
    assert handled(project) == Counter(old + new)
    assert not set(handled(project)) & set(skipped)


def test_made_anew_while_nothing_runs(make: Make) -> None:
    """Kafka forgets the offsets of a deleted topic; a commit that came too late names the topic that it was of."""
    project = make("at-least-once")
    with kept(project, "h") as worker:
        old = fill(project, "in", 0, [4, 4, 4])
        wait_handled(project, old, worker)
        worker.terminate()
    late = project.committed("h", "in")
    make_anew(project, "in")
    new = fill(project, "in", 100, [9, 4, 2])
    commit(project, "h", "in", late)
    with kept(project, "h") as worker:
        wait_handled(project, new, worker)
        assert worker.log.count("was deleted and made anew") == 3
        worker.terminate()
    assert handled(project) == Counter(old + new)
