"""Which handlers a changed file concerns, and what of the pipeline file makes a handler another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.config.model import Pipeline
from orchestrator.contracts import with_schemas
from orchestrator.up.affected import AffectedHandlers, changed_handlers
from orchestrator.up.python_imports import files_of, module_files

YAML = """\
kpipe: 1
pipeline: p
topics:
  a: {schema: schemas/a.json, key: k, dlq: a.dlq}
  b: {key: k, dlq: b.dlq}
handlers:
  one: {python: "app.one:handle", consumes: [a], produces: [b]}
  two: {python: "app.two:handle", consumes: [b]}
  web: {service: python -m app.web}
  served: {service: "uvicorn app.two:app"}
  node: {service: node server.js, produces: [a]}
"""
FILES = {
    "app/__init__.py": "",
    "app/one.py": "from . import shared\nfrom app.deep.down import thing\nimport json\n",
    "app/two.py": "def handle(event):\n    import lazy\n",
    "app/web.py": "import app.shared as s\n",
    "app/shared.py": "import app.one\n",
    "app/deep/down.py": "from ..two import handle\n",
    "lazy.py": "this is no Python",
    "server.js": "",
    "schemas/a.json": "{}",
    "schemas/part.json": "{}",
    "data.json": "{}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def read(folder: Path, yaml: str = YAML) -> Pipeline:
    path = folder / "pipeline.yaml"
    path.write_text(yaml)
    pipeline = load([path], os.environ).pipeline
    assert pipeline is not None
    return pipeline


@pytest.mark.parametrize(
    ("name", "handlers"),
    [
        ("app/__init__.py", ["one", "two", "web", "served"]),
        ("app/one.py", ["one", "web"]),
        ("app/shared.py", ["one", "web"]),
        ("app/deep/down.py", ["one", "web"]),
        ("app/two.py", ["one", "two", "web", "served"]),
        ("lazy.py", ["one", "two", "web", "served"]),
        ("app/web.py", ["web"]),
        ("server.js", ["node"]),
        ("config.toml", ["node"]),
        ("pipeline.yaml", []),
        ("schemas/a.json", ["one", "node"]),
        ("schemas/part.json", ["one", "node"]),
        ("data.json", []),
        ("other.py", []),
    ],
)
def test_whom_a_file_concerns(folder: Path, name: str, handlers: list[str]) -> None:
    pipeline = read(folder)
    assert AffectedHandlers(pipeline, [folder / "pipeline.yaml"]).handlers_of(folder / name) == handlers


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("pipeline: p", "pipeline: p # the same", []),
        ("one: {", "one: {replicas: 3, ", []),
        ("one: {", "one: {timeout: 3s, ", ["one"]),
        ("b: {", "b: {partitions: 7, ", ["one", "two"]),
        ("a: {", "a: {partitions: 7, ", ["one", "node"]),
        ("dlq: b.dlq", "dlq: other.dlq", ["one", "two"]),
        ("two: {", "two: {dlq: mine, ", ["two"]),
        ("  web:", "  more: {service: python -m app.web}\n  web:", []),
        (", consumes: [b]}", ", consumes: [a, b]}", ["two"]),
        ("handlers:", "handlers:\n  zero: {python: 'app.two:handle', consumes: [a]}", ["one"]),
    ],
)
def test_what_makes_a_handler_another_one(folder: Path, old: str, new: str, changed: list[str]) -> None:
    before = read(folder)
    assert changed_handlers(before, read(folder, YAML.replace(old, new, 1))) == changed


def test_an_import_that_leads_nowhere_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("from ... import up\nfrom .. import other\nimport nothing.at.all\nimport os.path\n")
    assert files_of([tmp_path / "m.py", tmp_path / "gone.py"], tmp_path) == {tmp_path / "m.py", tmp_path / "gone.py"}
    assert module_files("", tmp_path) == []


def test_a_contract_that_changed_by_a_file_elsewhere_makes_another_handler(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    part = folder / "elsewhere" / "k.json"
    part.write_text('{"type": "string"}')
    (folder / "schemas" / "a.json").write_text('{"properties": {"k": {"$ref": "../elsewhere/k.json"}}}')
    old = with_schemas(read(folder))
    assert changed_handlers(old, with_schemas(read(folder))) == []
    part.write_text('{"type": "integer"}')
    assert changed_handlers(old, with_schemas(read(folder))) == ["one", "node"]
