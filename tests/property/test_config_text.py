"""Whatever the file holds, `load` answers with findings."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import Loaded, build, load
from orchestrator.config.syntax.codes import CODES
from orchestrator.errors import FindingsError
from tests.support.config import VALUES, mutated, yaml_text

FRAGMENTS = st.sampled_from(
    (
        *"\n\t -:{}[],&*!|>'\"#%@`?$~",
        *("---", "...", "<<: *a", "&a ", "*a", "!!str ", "!x ", "\\x00", '"\\ud800"', '"\\UFFFFFFFF"', "\ufeff"),
        *("kpipe: 1", "pipeline: p", "topics:", "handlers:", "  a:", "    consumes: [a]", "${A}", "${file:a}", "$$"),
        *("%YAML 99999999999999.1", "%TAG ! tag:", "? ", "- ", "1e999", "0x", "-0", "null", "on", "2001-01-01"),
    )
)


def read(raw: bytes, environ: Mapping[str, str] | None = None) -> Loaded:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        file.write_bytes(raw)
        return load([file], environ or {})


def assert_sound(loaded: Loaded) -> None:
    """Either a pipeline, or at least one error; every finding with its place and its words."""
    errors = [finding for finding in loaded.findings if finding.severity == "error"]
    assert (loaded.pipeline is None) == bool(errors)
    for finding in loaded.findings:
        assert finding.file and finding.code in CODES and finding.message
        assert finding.line >= 0 and finding.column >= 0


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_findings(raw: bytes) -> None:
    assert_sound(read(raw))


@given(st.lists(FRAGMENTS | st.text(max_size=5), max_size=25).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_yaml_like_text_gives_findings(text: str) -> None:
    assert_sound(read(text.encode("utf-8", "surrogatepass")))


@given(mutated())
@settings(max_examples=300, deadline=None)
def test_any_misshapen_pipeline_gives_findings_from_file_and_from_tree(tree: dict[str, Any]) -> None:
    assert_sound(read(yaml_text(tree).encode()))
    try:
        build(tree, Path())
    except FindingsError as error:
        assert error.findings


@given(VALUES)
@settings(deadline=None)
def test_any_json_document_gives_findings(value: Any) -> None:
    assert_sound(read(yaml_text(value).encode()))


@pytest.mark.parametrize("depth", [10, 100, 10_000])
def test_nesting_of_any_depth_gives_findings(depth: int) -> None:
    assert_sound(read(b"a: " + b"[" * depth + b"]" * depth))
    assert_sound(read("\n".join(" " * level + "a:" for level in range(min(depth, 1000))).encode()))
