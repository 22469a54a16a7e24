"""Schemas that would cost too much: the same budget is used up everywhere, and a message says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.budget import Budget, TooMuch, size
from orchestrator.config.model import KafkaSettings, Pipeline, Topic
from orchestrator.contracts import load_contracts
from orchestrator.contracts.evolution.inclusion import misfits
from orchestrator.contracts.paths import MAX_STEPS, parse_path
from orchestrator.contracts.resolve import resolved
from orchestrator.errors import FindingsError


def written(path: Path, schema: Any) -> Path:
    path.write_text(json.dumps(schema))
    return path


def test_a_budget() -> None:
    budget = Budget(3, "too much")
    budget.spend(2)
    budget.spend()
    with pytest.raises(TooMuch, match="too much"):
        budget.spend()


def test_the_size_of_a_document() -> None:
    assert size(1) == 1
    assert size({"a": [1, {"b": None}], "c": "x"}) == 6
    assert size("x" * 1_000) == 11 and size({"x" * 1_000: 1}) == 12


def test_a_reference_counts_as_often_as_it_is_used(tmp_path: Path) -> None:
    """30 levels of two references each come to 2 ** 30 schemas; 10 levels may."""

    def doubling(levels: int) -> Any:
        pairs = {f"d{n}": {"properties": {s: {"$ref": f"#/$defs/d{n + 1}"} for s in "xy"}} for n in range(levels)}
        return {"$ref": "#/$defs/d0", "$defs": {**pairs, f"d{levels}": {"type": "string"}}}

    with pytest.raises(TooMuch, match="more than 500,000 values"):
        resolved(written(tmp_path / "a.json", doubling(30)))
    assert size(resolved(written(tmp_path / "b.json", doubling(10)))) > 2**10


def test_what_refers_to_itself_is_counted_once(tmp_path: Path) -> None:
    tree = {"type": "object", "properties": {f"p{n}": {"$ref": "#"} for n in range(1_000)}}
    assert size(resolved(written(tmp_path / "a.json", tree))) < 10_000


def test_levels_of_schemas_and_references(tmp_path: Path) -> None:
    chain = {"$ref": "#/$defs/d0", "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(500)}}
    deep: Any = {"type": "string"}
    for _ in range(300):
        deep = {"not": deep}
    for schema in (chain, deep):
        with pytest.raises(TooMuch, match="nested deeper than 200 levels"):
            resolved(written(tmp_path / "a.json", schema))


def test_contracts_that_are_kept_together_share_a_budget(tmp_path: Path) -> None:
    """Each schema alone is small enough."""
    topics = {}
    for number in range(3):
        path = written(tmp_path / f"{number}.json", {"enum": list(range(200_000))})
        topics[f"t{number}"] = Topic(f"t{number}", f"t{number}", 1, 1, {}, path)
        resolved(path)
    with pytest.raises(FindingsError) as refused:
        load_contracts(Pipeline("p", "", tmp_path, KafkaSettings(), topics, {}, {}))
    [finding] = refused.value.findings
    assert "and the schemas before it" in finding.message and finding.file.endswith("2.json")


def test_what_is_not_compared_counts_as_a_misfit() -> None:
    def level(depth: int, least: int) -> Any:
        if not depth:
            return {"type": "string", "minLength": least}
        return {"type": "object", "properties": {"a": {"anyOf": [level(depth - 1, least + n) for n in range(4)]}}}

    [misfit] = misfits(level(5, 0), level(5, 1), Budget(1_000, "is not compared"))
    assert misfit == ("$", "is not compared", True)


def test_comparing_what_refers_to_itself_ends() -> None:
    def ring(count: int) -> Any:
        links = {f"n{n}": {"properties": {"a": {"$ref": f"#/$defs/n{(n + 1) % count}"}}} for n in range(count)}
        return {"$ref": "#/$defs/n0", "$defs": links}

    assert any("nested too deeply" in misfit.reason for misfit in misfits(ring(200), ring(199)))


def test_a_path_has_no_more_steps_than_an_event_has_levels() -> None:
    assert len(parse_path("a" + ".a" * (MAX_STEPS - 1))) == MAX_STEPS
    with pytest.raises(ValueError, match="more than 254 steps"):
        parse_path("a" + ".a" * MAX_STEPS)
