"""A project from a plain script: loaded once, with its errors, and without the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import BrokerError, FindingsError, UsageError
from orchestrator.operations.loading import Project

FILE = 'kpipe: 1\npipeline: shop\nkafka: {bootstrap: "127.0.0.1:1"}\ntopics:\n  orders: {schema: o.json, dlq: none}\n'
SCHEMA = '{"type": "object", "required": ["id"]}'
EVERY_MODULE = """
import importlib, pkgutil, sys
import orchestrator.operations as operations
for module in pkgutil.walk_packages(operations.__path__, "orchestrator.operations."):
    importlib.import_module(module.name)
modules = {name.partition(".")[0] for name in sys.modules}
names = [name for name in sys.modules if name.startswith("orchestrator.operations.")]
sys.exit(0 if len(names) > 30 and not modules & {"click", "rich", "starlette"} else f"{names} {modules}")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(FILE)
    (tmp_path / "o.json").write_text(SCHEMA)
    return tmp_path


def test_a_project_has_its_pipeline_contracts_and_broker(folder: Path) -> None:
    project = Project.load(folder / "pipeline.yaml")
    assert (project.pipeline.name, project.bootstrap) == ("shop", "127.0.0.1:1")
    assert project.files == (folder / "pipeline.yaml",)
    assert [violation.path for violation in project.contracts["orders"].violations({})] == ["$.id"]
    assert project.contracts is project.contracts, "compiled once"


def test_overlays_are_merged_and_the_environment_is_an_argument(folder: Path) -> None:
    (folder / "more.yaml").write_text('kpipe: 1\nkafka: {bootstrap: "${WHERE}"}\n')
    files = (str(folder / "pipeline.yaml"), folder / "more.yaml")
    assert Project.load(*files, environ={"WHERE": "there:9092"}).bootstrap == "there:9092"


def test_what_is_no_file_or_no_pipeline_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*other\.yaml") as missing:
        Project.load(folder / "other.yaml")
    assert "-f" not in missing.value.hint, "a script has no options"
    with pytest.raises(UsageError, match="is a folder"):
        Project.load(folder)
    (folder / "pipeline.yaml").write_text("kpipe: 1\npipeline: shop\ntopcis: {}\n")
    with pytest.raises(FindingsError) as wrong:
        Project.load(folder / "pipeline.yaml")
    assert "topcis" in str(wrong.value)


def test_without_a_broker_it_says_how_to_get_one(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(FILE.replace('kafka: {bootstrap: "127.0.0.1:1"}\n', ""))
    with pytest.raises(BrokerError, match="no Kafka is running for this pipeline"):
        Project.load(folder / "pipeline.yaml").reader()


def test_a_wrong_schema_shows_when_contracts_are_asked_for(folder: Path) -> None:
    (folder / "o.json").write_text('{"$ref": "#/nowhere"}')
    project = Project.load(folder / "pipeline.yaml")
    with pytest.raises(FindingsError):
        _ = project.contracts


def test_no_operation_imports_click_or_rich() -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_MODULE], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
