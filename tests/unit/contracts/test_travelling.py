"""A pipeline on its way to another process: its contracts go along, and no file is read at the other end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.config import load, portable, restored
from orchestrator.config.model import Pipeline
from orchestrator.contracts import load_contracts, with_schemas
from orchestrator.errors import FindingsError
from orchestrator.records import Finding

FILE = """\
kpipe: 1
pipeline: shop
topics:
  orders: {schema: schemas/order.json, dlq: orders.dlq}
  notes: {dlq: none}
events: {order: {topic: orders, example: order.json}}
handlers:
  h: {python: "m:f", consumes: [orders], produces: [notes], dlq: none, env: {WORD: "${file:word}"}}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    folder = tmp_path / "shop"
    (folder / "schemas").mkdir(parents=True)
    (folder / "schemas" / "order.json").write_text(
        '{"properties": {"n": {"$ref": "n.json"}}, "required": ["n"], "type": "object"}'
    )
    (folder / "schemas" / "n.json").write_text('{"type": "integer", "minimum": 1}')
    (folder / "order.json").write_text('{"n": 1}')
    (folder / "word").write_text("a word")
    (folder / "pipeline.yaml").write_text(FILE)
    loaded = load([folder / "pipeline.yaml"], {})
    assert loaded.pipeline is not None, loaded.findings
    return loaded.pipeline


def sent(pipeline: Pipeline) -> Pipeline:
    return restored(json.loads(json.dumps(portable(pipeline))))


def test_what_arrives_is_what_was_sent_though_the_files_are_gone(pipeline: Pipeline) -> None:
    checked = with_schemas(pipeline)
    shutil.rmtree(pipeline.base)
    there = sent(checked)
    assert there == checked and there.handlers["h"].env == {"WORD": "a word"}
    contracts = load_contracts(there)
    assert contracts["orders"].is_valid({"n": 1}) and not contracts["orders"].is_valid({"n": 0})
    assert contracts["orders"].members == 1 and contracts["orders"].schema == pipeline.topics["orders"].schema
    assert contracts["notes"].is_valid("anything")


def test_schemas_that_are_there_are_not_read_again(pipeline: Pipeline) -> None:
    checked = with_schemas(pipeline)
    (pipeline.base / "schemas" / "n.json").write_text('{"typ')
    assert with_schemas(checked) is checked
    with pytest.raises(FindingsError) as broken:
        with_schemas(pipeline)
    assert "order.json: not a JSON Schema: the reference n.json" in str(broken.value)


def test_an_error_for_logs_has_its_file_and_no_warning() -> None:
    findings = [
        Finding("warning", "unknown-field", "pipeline.yaml", 3, 1, "no property `k`"),
        Finding("error", "json", "pipeline.yaml", 4, 12, "`a.json` is not JSON"),
        Finding("error", "schema", "b.json", 0, 0, "cannot be read"),
    ]
    assert str(FindingsError(findings)) == "pipeline.yaml:4:12: `a.json` is not JSON; b.json: cannot be read"
