"""`kpipe init`: what it makes is valid, runs, and never costs anybody a file."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.docs.test_json_docs import check
from tests.support.shell import kpipe, running

FILES = {
    "pipeline.yaml", "handlers/greeter.py", "schemas/greeting-requested.json", "schemas/greeting-given.json",
    "schemas/examples/greeting.json", "smoke.yaml", ".gitignore",
}  # fmt: skip


def made(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_with_a_valid_pipeline(tmp_path: Path) -> None:
    done = kpipe(tmp_path, "init", "a/My Shop!")
    project = tmp_path / "a" / "My Shop!"
    assert done.code == 0
    assert set(done.out.splitlines()) == {f"a/My Shop!/{name}" for name in FILES}
    assert "`kpipe up`" in done.err
    assert made(project) == FILES
    assert "\npipeline: my-shop\n" in (project / "pipeline.yaml").read_text()
    assert kpipe(project, "validate").code == 0


def test_the_current_folder_and_json(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    (tmp_path / "notes.txt").write_text("mine\n")
    shape = json.loads(kpipe(tmp_path, "init", "--json").out)
    check("init", shape)
    assert shape["folder"] == str(tmp_path.resolve())
    assert set(shape["files"]) == FILES - {".gitignore"}
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


@pytest.mark.parametrize("name", sorted(FILES - {".gitignore"}))
def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    done = kpipe(tmp_path, "init")
    assert (done.code, done.out) == (2, "")
    assert f"{name} exists already" in done.err
    assert made(tmp_path) == {name}
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = kpipe(tmp_path, "init", "file/project")
    assert (done.code, done.out) == (1, "")
    assert "cannot be written" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.kafka
def test_it_runs(kafka: str, tmp_path: Path) -> None:
    assert kpipe(tmp_path, "init", "greetings").code == 0
    project = tmp_path / "greetings"
    namespace = f"t{uuid.uuid4().hex[:10]}"
    env = {"KAFKA_BOOTSTRAP": kafka, "KPIPE_ENV": namespace}
    try:
        with running(project, "up", "--json", env=env) as up:
            while json.loads(up.line(60))["type"] != "ready":
                pass
            for name in ("Ada", "nobody"):
                assert kpipe(project, "send", "greeting", "--set", f"name={name}", env=env).code == 0
            waiting = ("-o", "beginning", "--expect", "1", "--timeout", "30s", "--json")
            given = kpipe(project, "tail", "greetings.given", *waiting, env=env)
            assert given.code == 0
            assert json.loads(given.out)["value"]["text"] == "Hello, Ada!"
            letter = kpipe(
                project, "tail", "greetings.dlq", *waiting, "--where", "letter.reason == 'rejected'", env=env
            )
            assert letter.code == 0
            assert up.interrupt() in (0, 130)
    finally:
        admin = AdminClient({"bootstrap.servers": kafka})
        mine = [name for name in admin.list_topics(timeout=10).topics if name.startswith(namespace)]
        for future in (admin.delete_topics(mine) if mine else {}).values():
            future.result(10)
