"""Laws of the pipeline file: interpolation, secrets, units, overlays, and what follows from a valid document."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orchestrator.config import build, load, units
from orchestrator.config.model import BROKER_MAX_MESSAGE_BYTES
from orchestrator.config.syntax import grammar
from orchestrator.config.syntax.interpolate import interpolate
from orchestrator.config.syntax.nodes import MapNode
from orchestrator.config.syntax.overlay import merge
from orchestrator.config.syntax.parse import parse
from orchestrator.config.syntax.values import plain
from orchestrator.config.topics import LETTER_HEADROOM
from tests.support.config import VALID, at, pipelines, put, scalar_paths, yaml_text

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
KEYS = st.sampled_from(("a", "b", "c", "d"))
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.booleans() | st.integers(-9, 9) | st.sampled_from(("x", "", "${A}", "off")) | st.lists(st.integers(0, 3)),
        lambda inner: st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def nodes(tree: Any) -> MapNode:
    root, findings = parse(yaml_text(tree).encode(), "pipeline.yaml")
    assert root is not None and not findings
    return root


def merged(*trees: Any) -> Any:
    result = nodes(trees[0])
    for tree in trees[1:]:
        result = merge(result, nodes(tree))
    return plain(result, [])


@given(path=st.sampled_from(scalar_paths(VALID)), value=TEXT)
@example(path=("kafka", "bootstrap"), value="x\ntopics: {}\n- '\"{[")
@example(path=("kafka", "bootstrap"), value="${B} $$ ${file:/etc/passwd}")
@settings(deadline=None)
def test_an_interpolated_value_is_that_text_and_nothing_else_changes(path: tuple[str | int, ...], value: str) -> None:
    root, findings = interpolate(nodes(put(VALID, path, "<${A}>")), {"A": value})
    assert findings == []
    assert plain(root, []) == put(VALID, path, f"<{value}>")


@given(value=TEXT)
@settings(deadline=None)
def test_doubled_dollars_write_any_text(value: str) -> None:
    root, findings = interpolate(nodes({"a": value.replace("$", "$$")}), {})
    assert findings == []
    assert plain(root, []) == {"a": value}


@given(
    places=st.sets(st.sampled_from(scalar_paths(VALID)), min_size=1, max_size=3),
    suffix=st.sampled_from(("", ".dlq", " ", ":x", "\n", "s", "/", "'")),
    prefix=st.sampled_from(("", "a-", "$$")),
    from_file=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_what_comes_from_outside_is_in_no_finding(
    places: set[tuple[str | int, ...]], suffix: str, prefix: str, from_file: bool
) -> None:
    secret = "Hunter2-Zebra" + suffix
    tree = VALID
    for path in places:
        tree = put(tree, path, prefix + ("${file:secret}" if from_file else "${SECRET}"))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "secret").write_text(secret)
        file = Path(folder, "pipeline.yaml")
        file.write_text(yaml_text(tree))
        loaded = load([file], {"SECRET": secret})
    for finding in loaded.findings:
        assert "Hunter2" not in finding.message + finding.hint + finding.code, finding


@given(st.integers(1, 10**14))
@settings(deadline=None)
def test_durations_round_trip(value: int) -> None:
    assert units.milliseconds(units.show_duration(value)) == value


@given(st.integers(1, 10**18))
@settings(deadline=None)
def test_sizes_round_trip(value: int) -> None:
    assert units.size(units.show_size(value)) == value


@given(
    st.sampled_from(("duration", "span", "pause", "size")).flatmap(lambda name: st.tuples(st.just(name), _texts(name)))
)
@settings(deadline=None)
def test_what_the_grammar_takes_has_a_value(case: tuple[str, str]) -> None:
    name, text = case
    value = units.size(text) if name == "size" else units.seconds(text)
    assert value > 0 or (name == "pause" and text in ("0s", "0ms"))


def _texts(name: str) -> st.SearchStrategy[str]:
    return st.from_regex(re.compile(grammar.schema()["$defs"][name]["pattern"], re.ASCII), fullmatch=True)


@given(TREES)
@settings(deadline=None)
def test_an_empty_overlay_changes_nothing(tree: Any) -> None:
    assert merged(tree, {}) == merged({}, tree) == tree


@given(TREES)
@settings(deadline=None)
def test_merging_twice_is_merging_once(tree: Any) -> None:
    assert merged(tree, tree) == tree


@given(TREES, TREES, TREES)
@settings(deadline=None)
def test_overlays_may_be_merged_in_groups(a: Any, b: Any, c: Any) -> None:
    grouped = merge(nodes(a), merge(nodes(b), nodes(c)))
    assume(not _scalar_between(a, b, c))
    assert merged(a, b, c) == plain(grouped, [])


def _scalar_between(a: Any, b: Any, c: Any) -> bool:
    """A mapping over a scalar over a mapping: grouping would merge what the scalar replaced."""
    if not (isinstance(a, dict) and isinstance(c, dict)):
        return False
    if not isinstance(b, dict):
        return True
    return any(_scalar_between(a[key], b[key], c[key]) for key in a.keys() & b.keys() & c.keys())


@given(TREES, TREES)
@settings(deadline=None)
def test_the_last_file_wins_and_nothing_is_lost(a: Any, b: Any) -> None:
    result = merged(a, b)
    assert result.keys() == a.keys() | b.keys()
    for key in b:
        if not isinstance(b[key], dict):
            assert result[key] == b[key]


@given(TREES, KEYS)
@settings(deadline=None)
def test_an_empty_value_removes_what_was_there(tree: Any, key: str) -> None:
    expected = {name: value for name, value in tree.items() if name != key}
    assert merged(tree, {key: None}) == (expected if key in tree else {**tree, key: None})


@given(pipelines())
@settings(deadline=None)
def test_a_tree_builds_the_pipeline_it_came_from(tree: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        file.write_text(yaml_text(tree))
        loaded = load([file], {})
    assert loaded.pipeline is not None, loaded.findings
    assert build(loaded.pipeline.tree, loaded.pipeline.base) == loaded.pipeline


@given(pipelines())
@settings(deadline=None)
def test_a_derived_dlq_takes_every_letter_of_its_sources(tree: dict[str, Any]) -> None:
    pipeline = build(tree, Path())
    for dlq in (topic for topic in pipeline.topics.values() if topic.is_dlq):
        sources = {name for name, topic in pipeline.topics.items() if topic.dlq == dlq.name}
        for handler in pipeline.handlers.values():
            if handler.dlq == dlq.name:
                sources |= {name for name in handler.consumes if not pipeline.topics[name].is_dlq}
        assert set(dlq.dlq_for) == sources
        served = [pipeline.topics[name] for name in sources]
        limits = [int(topic.configs.get("max.message.bytes", BROKER_MAX_MESSAGE_BYTES)) for topic in served]
        assert int(dlq.configs["max.message.bytes"]) == max(limits) + LETTER_HEADROOM
        assert dlq.partitions == max(topic.partitions for topic in served)
        assert dlq.replication == max(topic.replication for topic in served)
        assert at(dlq.configs, ("retention.ms",)) == "2592000000"
