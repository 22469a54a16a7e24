"""docs/json.md against what the commands print: every field is documented, and every documented one is there."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest

from orchestrator.cli.render.up_text import fact_json, line_json
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.logs.lines import Line
from orchestrator.supervisor.spec import ChildExit, StartRefusal
from tests.support.orders import Orders, orders_in, write
from tests.support.shell import kpipe, running

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
SCHEMAS: dict[str, Any] = {
    name: json.loads(schema)
    for name, schema in re.findall(r"^## ([\w ]+)\n.*?^```json\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
}
HANDLER = """
def handle(event):
    if event.value == "bad":
        raise ValueError("no")
"""
#: A value for every type of a fact's fields.
SAMPLES: dict[str, Any] = {
    "str": "x",
    "int": 1,
    "float": 1.5,
    "bool": True,
    "ChildExit": ChildExit(code=1),
    "StartRefusal": StartRefusal("no", "do"),
}


def closed(schema: Any) -> Any:
    """The same schema with no room for undocumented fields: what a test wants and a reader of JSON does not."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(part) for name, part in schema.items()}
    return made | {"additionalProperties": False} if "properties" in schema else made


def check(name: str, shape: Any) -> None:
    """Fail unless `shape` is as documented, and has no field that is not."""
    jsonschema_rs.validate(closed(SCHEMAS[name]), shape)


@pytest.fixture(scope="module")
def shop(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orders]:
    with orders_in(tmp_path_factory.mktemp("shop"), kafka) as made:
        yield made


def test_every_shape_has_a_schema_and_is_linked() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    assert set(SCHEMAS) == set(headings)
    linked = set(re.findall(r"\]\(#([\w-]+)\)", PAGE))
    assert linked == {name.replace(" ", "-") for name in headings}


def test_a_schema_that_is_not_met_is_noticed() -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        check("broker stop", {"stopped": True, "more": 1})
    with pytest.raises(jsonschema_rs.ValidationError):
        check("finding", {"severity": "error"})


@pytest.mark.kafka
def test_records(shop: Orders) -> None:
    for sent in shop.sent("order", "-n", "2", "-H", "a:b"):
        check("record", sent)
    odd = [
        {"key": b"\xff", "value": b"\xff", "headers": [("a", b"\xff"), ("a", None)]},
        {"key": None, "value": None},
        {"key": b"", "value": b"null"},
    ]
    write(shop.bootstrap, shop.topic("notes"), odd)
    shown = shop.tailed("notes", "-n", "3")
    assert {"key_base64", "value_base64"} <= set(shown[0])
    for record in shown:
        check("record", record)


@pytest.mark.kafka
def test_plan_and_topics(shop: Orders) -> None:
    shop.admin.alter({shop.topic("orders"): {"retention.ms": "-1"}})
    [plan] = shop.lines("topics", "sync", "--dry-run")
    assert {change["action"] for change in plan["changes"]} >= {"create", "grow", "config"}
    assert plan["impact"]
    check("plan", plan)
    [topics] = shop.lines("topics", "ls")
    assert {topic["state"] for topic in topics["topics"]} >= {"absent", "drift"}
    check("topics", topics)


def test_findings_and_errors(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("kpipe: 1\npipeline: shop\ntopcis: {}\n")
    findings = [json.loads(line) for line in kpipe(tmp_path, "validate", "--json").out.splitlines()]
    assert findings
    for finding in findings:
        check("finding", finding)
    error = json.loads(kpipe(tmp_path, "send", "x", "--json").err)
    assert error["error"]["findings"] == findings
    check("error", error)


@pytest.mark.kafka
def test_violations(shop: Orders) -> None:
    error = json.loads(shop.run("send", "order", '{"amount": "ten"}', "--json").err)
    assert error["error"]["violations"]
    check("error", error)


@pytest.mark.kafka
def test_brokers(shop: Orders, tmp_path: Path) -> None:
    [status] = shop.lines("broker", "status")
    assert status["state"] == "running"
    check("broker", status)
    (tmp_path / "pipeline.yaml").write_text("kpipe: 1\npipeline: shop\n")
    check("broker", json.loads(kpipe(tmp_path, "broker", "status", "--json").out))
    check("broker stop", json.loads(kpipe(tmp_path, "broker", "stop", "--json").out))
    (tmp_path / "kafka" / "libs").mkdir(parents=True)
    (tmp_path / "kafka" / "libs" / "kafka_2.13-4.0.0.jar").touch()
    env = {"KAFKA_HOME": str(tmp_path / "kafka")}
    check("broker fetch", json.loads(kpipe(tmp_path, "broker", "fetch", "--json", env=env).out))


def samples() -> dict[str, dict[str, Any]]:
    """One of each thing that `kpipe up --json` prints, by its type."""
    facts = [
        kind(**{field.name: SAMPLES[str(field.type)] for field in dataclasses.fields(kind)}) for kind in get_args(Fact)
    ]
    printed = [line_json("x", "stdout", Line("text")), *(fact_json(fact) for fact in facts)]
    return {shape["type"]: shape for shape in printed}


def test_happenings_and_their_fields() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([`\w ]*)\| ", PAGE, flags=re.MULTILINE)
    told = {kind: set(re.findall(r"`(\w+)`", fields)) for kind, fields in rows}
    assert told == {kind: set(shape) - {"type", "name"} for kind, shape in samples().items()}
    assert set(SCHEMAS["happening"]["properties"]["type"]["enum"]) == set(told)
    for shape in samples().values():
        check("happening", shape)


@pytest.mark.kafka
def test_a_running_pipeline(shop: Orders) -> None:
    (shop.folder / "work.py").write_text(HANDLER)
    (shop.folder / "more.yaml").write_text(
        "events: {note: {topic: notes}}\n"
        "handlers:\n  echo: {python: 'work:handle', consumes: [notes]}\n  idle: {service: sleep 600}\n"
    )
    files = ("-f", "pipeline.yaml", "-f", "more.yaml")
    with running(shop.folder, *files, "up", "--no-sync", "--json") as up:
        ready: set[str] = set()
        while ready < {"echo", "idle"}:
            shape = json.loads(up.line(30))
            check("happening", shape)
            ready |= {shape["name"]} if shape["type"] == "ready" else set()
        [handlers] = shop.lines(*files, "ps")
        check("handlers", handlers)
        assert [handler["accounting"] is None for handler in handlers["handlers"]] == [False, True]
        check("restart", shop.lines(*files, "restart", "echo")[0])
        check("scale", shop.lines(*files, "scale", "echo=1", "idle=1")[0])
        check("wait", shop.lines(*files, "wait", "ready")[0])
        check("wait", shop.lines(*files, "wait", "idle")[0])
        assert shop.run(*files, "down", "--json")[:2] == (0, "")
        assert up.child.wait(30) == 0
    check("handlers", shop.lines(*files, "ps")[0])
    for line in shop.lines(*files, "logs", "-n", "5"):
        check("log line", line)
    check("up in the background", shop.lines(*files, "up", "--no-sync", "--wait")[0])
    assert shop.run(*files, "down").code == 0
