"""`kpipe schemas`: contracts against git, folders and the records on Kafka; and the same check in `topics sync`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_json_docs import check
from tests.support.orders import Orders, orders_in
from tests.support.shell import Done, kpipe

PIPELINE = """\
kpipe: 1
pipeline: shop
topics:
  orders: {schema: schemas/order.json, key: id, dlq: orders.dlq}
  notes: {dlq: orders.dlq}
events:
  order: {topic: orders, example: order.json, generate: {id: uuid}}
handlers:
  web: {service: sleep 1, produces: [orders]}
  pay: {python: "m:f", consumes: [orders]}
"""
ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "amount"],
    "properties": {"id": {"type": "string"}, "amount": {"$ref": "money.json#/$defs/amount"}},
}
MONEY = {"$defs": {"amount": {"type": "number"}}}


def put(folder: Path, name: str, schema: Any) -> None:
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / name).write_text(json.dumps(schema))


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Committed in a folder of a larger repository."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "order.json").write_text('{"id": "x", "amount": 1}')
    put(folder, "order.json", ORDER)
    put(folder, "money.json", MONEY)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return folder


def answer(done: Done) -> Any:
    shape = json.loads(done.out)
    check("contracts", shape)
    return shape


def test_nothing_changed(project: Path) -> None:
    done = kpipe(project, "schemas", "check")
    assert done == (0, "orders  schemas/order.json  unchanged\n", "")


def test_a_required_field_that_is_dropped(project: Path) -> None:
    put(project, "order.json", {**ORDER, "required": ["id"]})
    done = kpipe(project, "schemas", "check")
    assert done.code == 3
    assert "$.amount  may be missing, and is required" in done.out
    assert "hits the handlers that consume it: pay\n" in done.out
    assert "hits the handlers that produce it: web\n" in done.out
    assert "1 contract breaks the required compatibility with HEAD: orders" in done.err
    assert kpipe(project, "schemas", "check", "--require", "backward").code == 0
    shape = answer(kpipe(project, "schemas", "check", "--json"))
    assert shape["contracts"][0]["forward"]["breaks"] == [
        {"path": "$.amount", "reason": "may be missing, and is required"}
    ]
    assert (shape["compatible"], shape["contracts"][0]["consumers"]) == (False, ["pay"])


def test_a_file_that_is_referred_to_counts(project: Path) -> None:
    put(project, "money.json", {"$defs": {"amount": {"type": "string"}}})
    done = kpipe(project, "schemas", "check", "--require", "backward")
    assert done.code == 3
    assert "$.amount  may be number, and has to be string" in done.out


def test_a_schema_that_was_moved_is_compared_by_its_topic(project: Path) -> None:
    put(project, "moved.json", {**ORDER, "required": ["id", "amount", "at"]})
    (project / "schemas" / "order.json").unlink()
    (project / "pipeline.yaml").write_text(PIPELINE.replace("schemas/order.json", "schemas/moved.json"))
    done = kpipe(project, "schemas", "check", "--require", "backward")
    assert done.code == 3
    assert "$.at  may be missing, and is required" in done.out


def test_an_optional_member_is_an_assumption(project: Path) -> None:
    put(project, "order.json", {**ORDER, "properties": {**ORDER["properties"], "note": {"type": "string"}}})
    done = kpipe(project, "schemas", "check")
    assert done.code == 0
    assert "$.note" in done.out and "(assumed: it is not there)" in done.out
    assert kpipe(project, "schemas", "check", "--strict").code == 3


def test_a_contract_that_is_new_or_gone(project: Path) -> None:
    text = PIPELINE.replace("notes: {", "notes: {schema: schemas/money.json, ")
    (project / "pipeline.yaml").write_text(text.replace("schema: schemas/order.json, ", ""))
    done = kpipe(project, "schemas", "check", "--json")
    assert done.code == 3
    assert [(one["topic"], one["state"]) for one in answer(done)["contracts"]] == [
        ("orders", "removed"),
        ("notes", "new"),
    ]


@pytest.mark.parametrize("flat", [False, True])
def test_against_a_folder(project: Path, tmp_path: Path, flat: bool) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    put(copy if not flat else tmp_path, "order.json", {**ORDER, "required": ["id"]})
    put(copy if not flat else tmp_path, "money.json", MONEY)
    folder = tmp_path / "schemas" if flat else copy
    done = kpipe(project, "schemas", "check", "--against", str(folder), "--require", "backward")
    assert done.code == 3
    assert "$.amount  may be missing, and is required" in done.out


def test_no_such_version(project: Path, tmp_path: Path) -> None:
    done = kpipe(project, "schemas", "check", "--against", "v99")
    assert (done.code, done.out) == (2, "")
    assert "neither a folder nor a git revision v99" in done.err
    assert kpipe(project, "schemas", "check", "--against", "--help").code == 2
    alone = kpipe(
        project, "schemas", "check", "--against", "HEAD", env={"GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    )
    assert alone.code == 0
    none = kpipe(project, "schemas", "check", env={"GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert none.code == 2
    assert "is in no git repository" in none.err
    assert kpipe(project, "schemas", "check", env={"PATH": ""}).code == 2


def test_an_earlier_schema_that_cannot_be_read(project: Path) -> None:
    put(project, "order.json", "{")
    git(project, "commit", "-qam", "broken")
    (project / "schemas" / "order.json").write_text("{")
    git(project, "commit", "-qam", "more broken")
    put(project, "order.json", ORDER)
    done = kpipe(project, "schemas", "check")
    assert done.code == 2
    assert "the schema order.json of HEAD cannot be read" in done.err


@pytest.mark.parametrize("name", ["order", "orders"])
def test_a_contract_with_what_it_refers_to(project: Path, name: str) -> None:
    done = kpipe(project, "schemas", "show", name)
    assert (done.code, done.err) == (0, "")
    schema, _, example = done.out.partition("\nExample:\n")
    assert json.loads(schema)["properties"]["amount"] == {"type": "number"}
    assert json.loads(example)["amount"] == 1
    assert json.loads(example)["id"] != "x"
    shape = json.loads(kpipe(project, "schemas", "show", name, "--json").out)
    check("contract", shape)


def test_show_makes_an_example_up_where_the_file_has_none(project: Path) -> None:
    file = project / "pipeline.yaml"
    file.write_text(file.read_text().partition("events:")[0])
    done = kpipe(project, "schemas", "show", "orders", "--json")
    shape = json.loads(done.out)
    check("contract", shape)
    assert shape["made_up"] is True
    assert isinstance(shape["example"]["amount"], int | float)
    assert kpipe(project, "schemas", "show", "orders", "--json").out == done.out
    assert "Example, made up from the schema:" in kpipe(project, "schemas", "show", "orders").out


def test_show_without_a_schema_or_a_name(project: Path) -> None:
    check("contract", json.loads(kpipe(project, "schemas", "show", "notes", "--json").out))
    assert "notes has no schema" in kpipe(project, "schemas", "show", "notes").err
    done = kpipe(project, "schemas", "show", "oder")
    assert done.code == 2
    assert "did you mean `order`" in done.err


# -- on Kafka ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path, kafka: str) -> Iterator[Orders]:
    with orders_in(tmp_path, kafka) as made:
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", "first")
        yield made


@pytest.mark.kafka
def test_a_sample_names_the_offsets_that_would_fail(shop: Orders) -> None:
    for amount in ("1", "2000", "3", "4000"):
        shop.sent("order", "--set", f"amount={amount}", "-k", "same", "--no-validate")
    bad = shop.sent("order", "--set", 'amount="x"', "-k", "same", "--no-validate")[0]
    schema = json.loads((shop.folder / "order.json").read_text())
    schema["properties"]["amount"]["maximum"] = 1000
    (shop.folder / "order.json").write_text(json.dumps(schema))
    done = shop.run("schemas", "check", "--require", "none", "--sample", "4")
    assert done.code == 3
    assert "of the last 4 records 2 would fail, and 1 that broke the earlier contract too" in done.out
    assert f"partition {bad['partition']}, offset {bad['offset'] - 1}: $.amount" in done.out
    assert "would fail the new contract: orders" in done.err
    done = shop.run("schemas", "check", "--require", "none", "--sample", "1", "--json")
    assert done.code == 0
    [failing] = answer(done)["contracts"][0]["sample"]["failing"]
    assert (failing["offset"], failing["kept_earlier"]) == (bad["offset"], False)


@pytest.mark.kafka
def test_sync_writes_nothing_while_a_contract_breaks(shop: Orders) -> None:
    schema = json.loads((shop.folder / "order.json").read_text())
    schema["properties"]["amount"]["maximum"] = 1000
    (shop.folder / "order.json").write_text(json.dumps(schema))
    allowed = [f"--allow={risk}={topic}" for risk in ("reorders", "data-loss") for topic in ("orders", "notes")]
    done = shop.run("topics", "sync", "-y", *allowed)
    assert done.code == 3
    assert "$.amount  may be more than what `maximum` allows" in done.err
    assert "--allow incompatible=orders" in done.err
    assert shop.topic("late") not in shop.admin.topic_names()
    assert shop.run("topics", "sync", "--dry-run", *allowed).code == 3
    done = shop.run("topics", "sync", "--dry-run", *allowed, "--allow", "incompatible=orders")
    assert done.code == 0, done.err
    assert shop.run("topics", "sync", "--dry-run", *allowed, env={"PATH": "/nowhere"}).code == 0
