"""Where partitions are read from: `from` for new groups, partitions that appear later, offsets that do not exist."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition as RdPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.integration.test_made_anew import CODE, YAML, commit, fill, handled, wait_handled
from tests.support.kept import kept
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

LATEST = YAML.replace("consumes: [in]", "consumes: [in]\n    from: latest").replace("partitions: 3", "partitions: 1")
EARLIEST = YAML.replace("partitions: 3", "partitions: 1")
Make = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Make:
    def build(yaml: str, guarantee: str = "at-least-once") -> Project:
        text = yaml.replace("GUARANTEE", guarantee).replace("REPLICAS", "1")
        return Project(tmp_path, kafka, text, {"code.py": CODE})

    return build


def grow(project: Project, topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": project.bootstrap})
    name = project.name(topic)
    admin.create_partitions([NewPartitions(name, partitions)])[name].result(10)
    until("they are there", lambda: len(admin.list_topics(name, timeout=5).topics[name].partitions) == partitions)
    project.reconnect()


@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
def test_a_partition_that_appears_later_is_read_from_its_beginning(make: Make, guarantee: str) -> None:
    """Its events are written before the worker sees it: within 5 s, by librdkafka's refresh of metadata."""
    project = make(LATEST, guarantee)
    before = fill(project, "in", 0, [5])
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        first = fill(project, "in", 10, [3])
        wait_handled(project, first, worker)
        grow(project, "in", 2)
        later = fill(project, "in", 100, [2, 7])
        wait_handled(project, later, worker)
        assert worker.terminate() == 0
    assert handled(project) == Counter(first + later)
    assert not set(before) & set(handled(project))


def test_it_is_the_same_while_nothing_runs(make: Make) -> None:
    project = make(LATEST)
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        worker.terminate()
    grow(project, "in", 3)
    later = fill(project, "in", 100, [2, 7, 1])
    with kept(project, "h") as worker:
        wait_handled(project, later, worker)
        worker.terminate()
    assert handled(project) == Counter(later)


def test_members_that_begin_a_group_together_skip_what_was_there(make: Make) -> None:
    """The second one finds the first one's commits, and is no latecomer for that."""
    project = make(LATEST.replace("partitions: 1", "partitions: 3"))
    before = fill(project, "in", 0, [5, 5, 5])
    with kept(project, "h") as a, kept(project, "h", 1) as b, kept(project, "h", 2) as c:
        for worker in (a, b, c):
            worker.worker.wait_ready()
        first = fill(project, "in", 100, [3, 3, 3])
        wait_handled(project, first, a, b, c)
        assert {worker.terminate() for worker in (a, b, c)} == {0}
    assert not set(before) & set(handled(project))


def test_an_offset_beyond_the_end_goes_on_at_the_end_and_says_so(make: Make) -> None:
    project = make(EARLIEST)
    old = fill(project, "in", 0, [5])
    with kept(project, "h") as worker:
        wait_handled(project, old, worker)
        worker.terminate()
    [(_, metadata)] = project.committed("h", "in").values()
    commit(project, "h", "in", {0: (50, metadata)})
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        new = fill(project, "in", 100, [4])
        wait_handled(project, new, worker)
        assert "offsets 5 to 49 are in doubt" in worker.log
        assert "made anew" not in worker.log
        until("the commit", lambda: project.committed("h", "in")[0][0] == 9)
        worker.terminate()
    assert handled(project) == Counter(old + new)


def test_an_offset_beyond_the_end_by_another_tool_is_called_that(make: Make) -> None:
    project = make(EARLIEST)
    old = fill(project, "in", 0, [5])
    commit(project, "h", "in", {0: (50, "")})
    with kept(project, "h") as worker:
        worker.worker.wait_ready()
        new = fill(project, "in", 100, [4])
        wait_handled(project, new, worker)
        assert "another tool" in worker.log and "made anew" not in worker.log
        worker.terminate()
    assert handled(project) == Counter(new) and old


def test_what_was_settled_above_an_offset_that_retention_removed_does_not_run_again(make: Make) -> None:
    """The commit's settled ranges hold, whatever became of the offset itself."""
    project = make(EARLIEST.replace("attempts: 2, backoff: 50ms", "attempts: 9, backoff: 60s, max-backoff: 60s"))
    code = CODE.replace('"reject"', '"fail"').replace('Reject("never")', 'ValueError("later")')
    (project.folder / "code.py").write_text(code)
    project.send("in", [{"k": "stuck", "n": 0, "do": "fail"}])
    good = fill(project, "in", 1, [8])
    with kept(project, "h") as worker:
        wait_handled(project, good, worker)
        until("the commit", lambda: sum(json.loads(project.committed("h", "in")[0][1])["n"]) == 8)
        worker.kill()
    admin = AdminClient({"bootstrap.servers": project.bootstrap})
    for answer in admin.delete_records([RdPartition(project.name("in"), 0, 4)]).values():
        answer.result()
    more = fill(project, "in", 100, [2])
    with kept(project, "h") as worker:
        wait_handled(project, more, worker)
        assert "removed unread by retention" in worker.log
        worker.terminate()
    assert handled(project) == Counter(good + more)
