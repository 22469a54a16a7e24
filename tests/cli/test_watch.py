"""`kpipe up --watch`: what changes is put into effect, and nothing else is touched."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.supervised import wait_until
from tests.support.up import IDLE, Project, Up

pytestmark = pytest.mark.kafka

WORK = "import helper\ndef handle(event):\n    print(helper.WORD, event.value['n'], flush=True)\n"


class Watched:
    """A pipeline of one worker and one service under `up --watch`."""

    def __init__(self, folder: Path, kafka: str) -> None:
        self.folder = folder
        self.project = Project(folder, kafka, {"idle": IDLE})
        self.write("work.py", WORK)
        self.write("helper.py", "WORD = 'old'\n")
        self.base = (
            (folder / "pipeline.yaml").read_text()
            + "  work: {python: 'work:handle', consumes: [jobs], dlq: none}\n"
            + f"namespace: n{secrets.token_hex(4)}\n"
        )
        self.topics = "topics: {jobs: {key: n, dlq: none}}\n"
        self.file()
        self.up: Up

    def file(self, handlers: str = "", topics: str | None = None) -> None:
        """The pipeline file, with more `handlers` in front, or other `topics`."""
        text = self.base.replace("handlers:\n", f"handlers:\n{handlers}") + (topics or self.topics)
        self.write("pipeline.yaml", text)

    def write(self, name: str, text: str) -> None:
        """As editors do: another file in its place."""
        (self.folder / ".new").write_text(text)
        (self.folder / ".new").rename(self.folder / name)

    def happened(self, kind: str, name: str) -> list[dict[str, Any]]:
        facts = [json.loads(line) for line in self.up.out.splitlines() if line.endswith("}")]
        return [fact for fact in facts if (fact["type"], fact["name"]) == (kind, name)]

    def pid(self, name: str) -> int | None:
        started = self.happened("started", name)
        return started[-1]["pid"] if started else None


@pytest.fixture
def watched(tmp_path: Path, kafka: str) -> Iterator[Watched]:
    it = Watched(tmp_path, kafka)
    with it.project.up("--json", after=("--watch",)) as up:
        it.up = up
        for name in ("work", "idle"):
            wait_until(f"{name} is ready", lambda name=name: it.happened("ready", name))  # type: ignore[misc]
        yield it
        assert it.project.kpipe("down").returncode == 0
        assert up.ended(10) == 0, "whatever failed on the way was mended"


def test_a_handlers_files(watched: Watched) -> None:
    idle = watched.pid("idle")

    def edit(name: str, text: str, kind: str, of: str = "work") -> dict[str, Any]:
        before = len(watched.happened(kind, of))
        watched.write(name, text)
        wait_until(f"{kind} after {name}:\n{watched.up.out}", lambda: len(watched.happened(kind, of)) > before)
        return watched.happened(kind, of)[-1]

    assert edit("helper.py", "WORD = 'new'\n", "ready")
    assert watched.happened("reloading", "work")[-1]["reason"] == "helper.py changed"
    assert watched.project.kpipe("send", "jobs", '{"n": 1}').returncode == 0
    watched.up.says("new 1")

    pid = watched.pid("work")
    said = edit("helper.py", "WORD = (\n", "not-reloaded", "pipeline.yaml")
    assert f"{watched.folder / 'helper.py'}:1:" in said["reason"] and watched.pid("work") == pid
    watched.write("work.py", "import nothing_of_that_name\n" + WORK)
    count = len(watched.happened("reloading", "work"))
    edit("helper.py", "WORD = 'mended'\n", "could-not-start")
    assert len(watched.happened("reloading", "work")) == count + 1
    edit("work.py", WORK, "ready")
    assert watched.project.kpipe("send", "jobs", '{"n": 2}').returncode == 0
    watched.up.says("mended 2")
    assert watched.pid("idle") == idle, "it has nothing to do with all that"


def test_the_pipeline_file(watched: Watched) -> None:
    idle, work = watched.pid("idle"), watched.pid("work")
    watched.write("extra.py", IDLE)
    watched.file(f"  extra: {{service: python extra.py {watched.project.mark}}}\n")
    wait_until("the new one is ready", lambda: watched.happened("ready", "extra"))
    watched.file("  extra: {serve: python extra.py}\n")
    wait_until("it is found wrong", lambda: watched.happened("not-reloaded", "pipeline.yaml"))
    assert "pipeline.yaml:5:" in watched.happened("not-reloaded", "pipeline.yaml")[-1]["reason"]
    watched.file()
    wait_until("the new one is gone", lambda: watched.happened("stopped", "extra"))
    assert (watched.pid("idle"), watched.pid("work")) == (idle, work), "they are as they were"

    watched.file(topics="topics: {jobs: {key: n, dlq: none}, more: {dlq: none}}\n")
    topics = ("topics", "sync", "--check")
    wait_until("the new topic is there", lambda: watched.project.kpipe(*topics).returncode == 0)
    watched.file(topics="topics: {jobs: {key: n, dlq: none, partitions: 9}, more: {dlq: none}}\n")
    wait_until("growth is refused", lambda: len(watched.happened("not-reloaded", "pipeline.yaml")) == 2)
    assert watched.pid("work") == work
