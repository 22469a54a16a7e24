"""What commands say of a topic that was deleted and made anew: `wait idle`, `lag`, `trace`, `tail -f`, `ps`."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_json_docs import check
from tests.integration.test_made_anew import (
    CODE,
    YAML,
    commit,
    fill,
    handled,
    make_anew,
    make_topic_anew,
    wait_handled,
)
from tests.support.kept import kept
from tests.support.shell import KPIPE, environment, kpipe
from tests.support.worker import Project, until

pytestmark = pytest.mark.kafka

Make = Callable[..., Project]


@pytest.fixture
def make(tmp_path: Path, kafka: str) -> Iterator[Make]:
    def build(yaml: str = YAML) -> Project:
        text = yaml.replace("GUARANTEE", "at-least-once").replace("REPLICAS", "1")
        return Project(tmp_path, kafka, text, {"code.py": CODE})

    yield build
    kpipe(tmp_path, "down")


def lag(project: Project) -> list[dict[str, Any]]:
    done = kpipe(project.folder, "lag", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    check("lag", answer)
    [handler] = answer["handlers"]
    return [part for part in handler["partitions"] if part["topic"] == "in"]


def test_a_running_pipeline_is_not_idle_before_all_of_the_new_topic_is_handled(make: Make) -> None:
    project = make()
    assert kpipe(project.folder, "up", "-d", "--wait").code == 0
    old = fill(project, "in", 0, [4, 4, 4])
    assert kpipe(project.folder, "wait", "idle", "--timeout", "60s").code == 0
    make_anew(project, "in")
    new = fill(project, "in", 100, [14, 13, 13])
    idle = kpipe(project.folder, "wait", "idle", "--timeout", "60s")
    assert idle.code == 0, idle.err
    assert handled(project) == Counter(old + new)
    log = kpipe(project.folder, "logs").out
    assert "was deleted and made anew; starting again" in log + kpipe(project.folder, "logs", "_up").out
    ps = json.loads(kpipe(project.folder, "ps", "--json").out)
    [handler] = ps["handlers"]
    assert handler["state"] == "ready"
    assert handler["accounting"] == {"in": 52, "done": 52, "dead_lettered": 0, "skipped": 0, "in_flight": 0}
    assert [part["lag"] for part in lag(project)] == [0, 0, 0]


def test_a_commit_of_the_former_topic_says_nothing_about_the_new_one(make: Make) -> None:
    project = make()
    with kept(project, "h") as worker:
        wait_handled(project, fill(project, "in", 0, [4, 4, 4]), worker)
        worker.terminate()
    late = project.committed("h", "in")
    make_anew(project, "in")
    fill(project, "in", 100, [9, 4, 2])
    commit(project, "h", "in", late)
    assert [(part["committed"], part["lag"], part["jump"]) for part in lag(project)] == [
        (4, 9, "remade"),
        (4, 4, "remade"),
        (4, 2, "remade"),
    ]
    assert "all of the new one is waiting" in kpipe(project.folder, "lag").err
    story = json.loads(kpipe(project.folder, "trace", "in/0/1", "--json").out)
    assert [o["outcome"] for r in story["records"] for o in r["handlers"]] == ["pending"]


def test_lag_shows_an_offset_beyond_the_end(make: Make) -> None:
    project = make()
    fill(project, "in", 0, [5, 5, 5])
    commit(project, "h", "in", {0: (50, ""), 1: (2, ""), 2: (5, "")})
    assert [(part["committed"], part["lag"], part["jump"]) for part in lag(project)] == [
        (50, 0, "beyond"),
        (2, 3, None),
        (5, 0, None),
    ]
    assert "beyond the end of the log" in kpipe(project.folder, "lag").err


def test_following_a_topic_that_is_made_anew_ends_and_says_so(make: Make) -> None:
    project = make()
    fill(project, "in", 0, [5, 5, 5])
    with subprocess.Popen(
        [KPIPE, "tail", "in", "-f", "--format", "%v\\n"], cwd=project.folder, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as tail:  # fmt: skip
        assert tail.stdout is not None and tail.stderr is not None
        for _ in range(10):
            assert tail.stdout.readline()
        make_anew(project, "in")
        fill(project, "in", 100, [9, 9, 9])
        until("it has ended", lambda: tail.poll() is not None)
        assert (tail.returncode, "deleted" in tail.stderr.read()) == (4, True)


def test_a_redrive_topic_that_is_made_anew_gives_its_handler_every_letter_once(make: Make) -> None:
    project = make()
    (project.folder / "code.py").write_text(
        "import pathlib\nfrom orchestrator import Emit, Reject\n\ndef handle(event):\n"
        "    if not pathlib.Path('fixed').exists():\n        raise Reject('not yet')\n"
        "    return Emit('out', {'k': event.value['k'], 'n': event.value['n']})\n"
    )
    redriven = project.pipeline.inputs_of(project.pipeline.handlers["h"]).redrive
    assert redriven is not None
    with kept(project, "h") as worker:
        numbers = fill(project, "in", 0, [4, 4, 4])
        until("all are letters", lambda: len(project.read("h.dlq")) == len(numbers))
        (project.folder / "fixed").touch()
        first = kpipe(project.folder, "dlq", "redrive", "h.dlq", "-y", "--max", "7")
        assert first.code == 0, first.err
        until("they are handled", lambda: sum(handled(project).values()) == 7)
        make_topic_anew(project, redriven, 3)
        # The redrive topic is the memory of what was sent back: without it, all letters go again.
        second = kpipe(project.folder, "dlq", "redrive", "h.dlq", "-y")
        assert second.code == 0, second.err
        until("all are handled", lambda: sum(handled(project).values()) >= 7 + len(numbers), 60)
        idle = until("its lag is 0", lambda: _no_lag(project), 60)
        worker.check()
        assert idle and worker.terminate() == 0
    counts = handled(project)
    assert set(counts) == set(numbers) and sum(counts.values()) == 7 + len(numbers)


def _no_lag(project: Project) -> bool:
    answer = json.loads(kpipe(project.folder, "lag", "--json").out)
    return all(part["lag"] == 0 and part["jump"] is None for part in answer["handlers"][0]["partitions"])
