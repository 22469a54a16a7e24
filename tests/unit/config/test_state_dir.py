"""Where a project's state is: decided by the environment that the files are loaded with, and by nothing later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.config.building import portable, restored
from orchestrator.config.loading import load
from orchestrator.config.model import Pipeline


def read(folder: Path, environ: dict[str, str]) -> Pipeline:
    (folder / "pipeline.yaml").write_text("kpipe: 1\npipeline: p\n")
    loaded = load([folder / "pipeline.yaml"], environ)
    assert loaded.pipeline is not None, loaded.findings
    return loaded.pipeline


def test_it_is_beside_the_file_unless_the_environment_names_another(tmp_path: Path) -> None:
    assert read(tmp_path, {}).state_dir == tmp_path / ".kpipe"
    assert read(tmp_path, {"KPIPE_STATE_DIR": ""}).state_dir == tmp_path / ".kpipe"
    assert read(tmp_path, {"KPIPE_STATE_DIR": "/elsewhere"}).state_dir == Path("/elsewhere")


@pytest.mark.parametrize("named", ["/elsewhere", "."])
def test_another_process_gets_the_same_whatever_its_environment_says(
    tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = read(tmp_path, {"KPIPE_STATE_DIR": named})
    monkeypatch.setenv("KPIPE_STATE_DIR", "/third")
    there = restored(json.loads(json.dumps(portable(pipeline))))
    assert pipeline.state_dir == there.state_dir == Path(named)
    assert there == pipeline


def test_without_the_folder_it_is_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document from an `up` of an earlier version."""
    document = portable(read(tmp_path, {}))
    del document["state_dir"]
    monkeypatch.setenv("KPIPE_STATE_DIR", "/third")
    assert restored(document).state_dir == tmp_path / ".kpipe"
