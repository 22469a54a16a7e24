"""What one broker cannot show: leader epochs that went up, and logs that lose their end. Three brokers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from orchestrator.kafka.admin.topic_ids import TopicIds
from orchestrator.kafka.properties import client_properties
from orchestrator.worker.consume.topic_identity import TopicIdentities
from tests.integration.test_made_anew import BOTH, CODE, YAML, fill, handled, make_anew, wait_handled
from tests.support.brokers import Brokers, brokers_in
from tests.support.kept import kept
from tests.support.worker import Project, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

Make = Callable[..., Project]


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with brokers_in(tmp_path_factory.mktemp("three"), 3) as made:
        yield made


@pytest.fixture
def make(tmp_path: Path, brokers: Brokers) -> Make:
    def build(guarantee: str, yaml: str = YAML, replicas: int = 3) -> Project:
        text = yaml.replace("GUARANTEE", guarantee).replace("REPLICAS", str(replicas))
        return Project(tmp_path, brokers.bootstrap, text, {"code.py": CODE})

    return build


def leaders_move(brokers: Brokers) -> None:
    """Every broker is killed and comes back: every partition has had other leaders, and its leader epoch is above 0."""
    for node in brokers.nodes:
        node.kill()
        node.start()
        brokers.wait_whole()


@pytest.mark.parametrize("guarantee", BOTH)
def test_topics_made_anew_after_leaders_have_moved(make: Make, brokers: Brokers, guarantee: str) -> None:
    """The new topics begin with leader epoch 0, which clients that saw a higher one take for outdated."""
    project = make(guarantee)
    with kept(project, "h") as worker:
        worker.worker.wait_ready(90)
        old = fill(project, "in", 0, [4, 4, 4])
        wait_handled(project, old, worker)
        leaders_move(brokers)
        more = fill(project, "in", 50, [4, 4, 4])
        wait_handled(project, more, worker)
        for topic in ("in", "out", "h.dlq"):
            make_anew(project, topic, 3)
        project.reconnect()
        new = fill(project, "in", 100, [20, 8, 3])
        project.send("in", [{"k": "a", "n": -2, "do": "reject"}])
        wait_handled(project, new, worker)
        until("a letter in the new DLQ", lambda: len(project.read("h.dlq")) == 1, 60)
        assert worker.terminate() == 0
    assert handled(project) == Counter(new), "the output is new as well"


def test_a_broker_that_dies_takes_no_core_for_the_questions_about_topic_ids(make: Make, brokers: Brokers) -> None:
    """librdkafka repeats a question to a broker that is gone without a pause; which broker is asked is its choice."""
    project = make("at-least-once")
    ids = TopicIds(client_properties(project.pipeline.kafka, "admin", project.bootstrap))
    topics = TopicIdentities([project.name("in")], ids)
    topics.look()

    def busy(seconds: float) -> float:
        began, end = time.process_time(), time.monotonic() + seconds
        while time.monotonic() < end:
            topics.ask_in_time()
            topics.answered()
            time.sleep(0.05)
        return (time.process_time() - began) / seconds

    for node in brokers.nodes:
        busy(2)
        node.kill()
        share = busy(4)
        node.start()
        brokers.wait_whole()
        assert share < 0.4
    until("they are answered again", lambda: topics.ask_in_time() or topics.answered(), 30)


LOOSE = "replication: 2, configs: {min.insync.replicas: 1, unclean.leader.election.enable: true}"
UNCLEAN = YAML.replace("in: {key: k", f"in: {{key: k, {LOOSE}").replace("partitions: 3", "partitions: 1")


def partition_of(project: Project, topic: str) -> tuple[int, list[int], list[int]]:
    """Leader, replicas and in-sync replicas of the topic's only partition, as nodes."""
    admin = AdminClient({"bootstrap.servers": project.bootstrap, "socket.timeout.ms": 3_000, "log_level": 0})
    seen = admin.list_topics(project.name(topic), timeout=5).topics[project.name(topic)].partitions[0]
    return seen.leader, list(seen.replicas), list(seen.isrs)


def lose_the_end(project: Project, brokers: Brokers, lost: Callable[[], None]) -> None:
    """What `lost` writes to `in` is acknowledged by one broker only, and that broker does not come back in time."""
    leader, replicas, _ = partition_of(project, "in")
    nodes = {node.node: node for node in brokers.nodes}
    follower = next(node for node in replicas if node != leader)
    nodes[follower].kill()
    until("only the leader is in sync", lambda: partition_of(project, "in")[2] == [leader], 120)
    lost()
    nodes[leader].kill()
    nodes[follower].start()
    until("the follower leads", lambda: partition_of(project, "in")[0] == follower, 150)


def heal(brokers: Brokers) -> None:
    for node in brokers.nodes:
        if not node.runs:
            node.start()
    brokers.wait_whole()


@pytest.fixture
def truncated(make: Make, brokers: Brokers) -> Iterator[Project]:
    project = make("at-least-once", UNCLEAN)
    yield project
    heal(brokers)


def test_a_log_that_loses_its_end_goes_on_where_it_parted(truncated: Project, brokers: Brokers) -> None:
    """An unclean election under a running worker. The events that it handled and that are lost are named."""
    project = truncated
    with kept(project, "h") as worker:
        worker.worker.wait_ready(90)
        old = fill(project, "in", 0, [10])
        wait_handled(project, old, worker)
        lost: list[int] = []

        def write() -> None:
            lost.extend(fill(project, "in", 50, [5]))
            wait_handled(project, lost, worker)
            # Whoever has the partition afterwards, this worker or its group anew, has to find out by the epochs.
            until("it is committed", lambda: project.committed("h", "in")[0][0] == 15, 120)

        lose_the_end(project, brokers, write)
        project.reconnect()
        new = fill(project, "in", 100, [30])
        wait_handled(project, new, worker)
        heal(brokers)
        more = fill(project, "in", 200, [3])
        wait_handled(project, more, worker)
        assert worker.terminate() == 0
    assert handled(project) == Counter(old + lost + new + more)
    assert "offsets 10 to 14 are in doubt" in worker.log


def test_a_log_that_lost_its_end_while_nothing_ran_is_noticed_by_its_leader_epochs(
    truncated: Project, brokers: Brokers
) -> None:
    """It has grown past the committed offset again: only the epochs tell."""
    project = truncated
    written: list[int] = []
    with kept(project, "h") as worker:
        worker.worker.wait_ready(90)
        written += fill(project, "in", 0, [10])
        wait_handled(project, written, worker)

        def write() -> None:
            written.extend(fill(project, "in", 50, [5]))
            wait_handled(project, written, worker)
            until("it is committed", lambda: project.committed("h", "in")[0][0] == 15, 120)
            worker.terminate()

        lose_the_end(project, brokers, write)
    project.reconnect()
    new = fill(project, "in", 100, [30])
    with kept(project, "h") as worker:
        wait_handled(project, new, worker)
        assert "offsets 10 to 14 are in doubt" in worker.log
        assert worker.terminate() == 0
    assert handled(project) == Counter(written + new)
