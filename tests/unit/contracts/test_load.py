"""Schemas from files: references, drafts, formats, and everything that can be wrong with them."""

from __future__ import annotations

import json
import socketserver
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.contracts import load_contracts
from orchestrator.contracts.load import compile_schema
from orchestrator.errors import FindingsError
from orchestrator.records import Finding


def write(path: Path, schema: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
    return path


def finding(path: Path) -> Finding:
    with pytest.raises(FindingsError) as caught:
        compile_schema(path)
    (found,) = caught.value.findings
    assert found.severity == "error"
    assert found.file == str(path)
    return found


def test_a_reference_to_a_sibling_file(tmp_path: Path) -> None:
    write(tmp_path / "common parts.json", {"$defs": {"amount": {"type": "number"}}})
    write(tmp_path / "shared" / "id.json", {"type": "string", "format": "uuid"})
    schema = {"properties": {"amount": {"$ref": "common%20parts.json#/$defs/amount"}, "id": {"$ref": "shared/id.json"}}}
    checked = compile_schema(write(tmp_path / "order.json", schema))
    assert checked.is_valid({"amount": 1})
    assert not checked.is_valid({"amount": "1"})
    assert not checked.is_valid({"id": "1"})


def test_a_reference_by_the_id_of_a_sibling(tmp_path: Path) -> None:
    base = "https://example.com/schemas/"
    write(tmp_path / "money.json", {"$id": base + "money.json", "type": "number"})
    write(tmp_path / "broken.json", "{")
    order = {"$id": base + "order.json", "properties": {"amount": {"$ref": "money.json"}}}
    checked = compile_schema(write(tmp_path / "order.json", order))
    assert not checked.is_valid({"amount": "1"})


def test_nothing_is_fetched(tmp_path: Path) -> None:
    asked = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.set()

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = f"http://127.0.0.1:{server.server_address[1]}/schema.json"
        found = finding(write(tmp_path / "order.json", {"$ref": uri}))
        server.shutdown()
        thread.join()
    assert not asked.is_set()
    assert uri in found.message
    assert "relative path" in found.message


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ('{"type": "object",\n  "required": [}', "not JSON"),
        ("[]", "not a JSON Schema"),
        ({"type": "strnig"}, "strnig"),
        ({"properties": {"a": {"minimum": "1"}}}, "at #/properties/a/minimum"),
        ({"pattern": "("}, "("),
        ({"format": "dat-time"}, "dat-time"),
        ({"$ref": "missing.json"}, "missing.json"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$schema": "https://example.com/none"}, "https://example.com/none"),
    ],
)
def test_a_wrong_schema_is_one_clear_finding(tmp_path: Path, schema: Any, said: str) -> None:
    found = finding(write(tmp_path / "order.json", schema))
    assert said in found.message
    assert "\n" not in found.message


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    found = finding(write(tmp_path / "order.json", '{"type": "object",\n  "required": [}'))
    assert found.line == 2
    assert found.column > 1


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in finding(tmp_path / "none.json").message
    assert "cannot be read" in finding(tmp_path).message


def test_other_drafts_are_taken_as_they_say(tmp_path: Path) -> None:
    draft7 = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"format": "email"}}}
    checked = compile_schema(write(tmp_path / "s.json", {**draft7, "items": [{"$ref": "#/definitions/a"}]}))
    assert not checked.is_valid(["no address"])


def pipeline(base: Path, **schemas: str | None) -> Pipeline:
    topics = {
        name: Topic(name, name, 1, 1, {}, schema=Path(schema) if schema else None) for name, schema in schemas.items()
    }
    return Pipeline("p", "", base, KafkaSettings(), topics, {}, {})


def test_contracts_of_a_pipeline(tmp_path: Path) -> None:
    write(tmp_path / "order.json", {"type": "object"})
    contracts = load_contracts(pipeline(tmp_path, a="order.json", b="order.json", c=None))
    assert set(contracts) == {"a", "b", "c"}
    assert [contracts[name].is_valid(1) for name in ("a", "b", "c")] == [False, False, True]
    assert contracts["a"].schema == Path("order.json")


def test_every_wrong_schema_of_a_pipeline_is_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.json", {"$ref": "missing.json"})
    write(tmp_path / "b.json", {"format": "dat-time"})
    with pytest.raises(FindingsError) as caught:
        load_contracts(pipeline(tmp_path, a="a.json", b="b.json", c="a.json"))
    assert [Path(found.file).name for found in caught.value.findings] == ["a.json", "b.json"]
    assert "2 errors" in caught.value.message
