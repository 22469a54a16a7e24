"""Several files: what they come to, and which file a finding names."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import Loaded, load

BASE = """\
kpipe: 1
pipeline: p
kafka: {bootstrap: "${BASE_ONLY}", client: {a: 1, b: 2}}
topics:
  one: {partitions: 3, key: id}
  two: {}
events: {a: {topic: one}, b: {topic: two}}
handlers:
  h: {python: m:f, consumes: [one, two], dlq: none, env: {A: 1}}
"""


def overlaid(folder: Path, *overlays: str, **environ: str) -> Loaded:
    files = []
    for number, text in enumerate((BASE, *overlays)):
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(text)
    return load(files, environ)


def test_mappings_merge_and_everything_else_replaces(tmp_path: Path) -> None:
    overlay = "kafka: {bootstrap: h:1, client: {b: 3}}\ntopics: {one: {partitions: 6}, new: }\n"
    pipeline = overlaid(tmp_path, overlay, "handlers: {h: {consumes: [new], env: {B: 2}}}").pipeline
    assert pipeline is not None
    assert (pipeline.kafka.bootstrap, pipeline.kafka.client) == ("h:1", {"a": "1", "b": "3"})
    assert (pipeline.topics["one"].partitions, pipeline.topics["one"].key) == (6, "id")
    assert list(pipeline.topics) == ["one", "two", "new"]
    assert pipeline.handlers["h"].consumes == ("new",)
    assert pipeline.handlers["h"].env == {"A": "1", "B": "2"}


def test_an_empty_value_removes_and_the_default_holds_again(tmp_path: Path) -> None:
    result = overlaid(
        tmp_path, "kafka:\ntopics: {one: {partitions: ~, key: null}, two: }\nevents: {b: }\nhandlers: {h: }\n"
    )
    assert result.pipeline is not None
    assert result.pipeline.kafka.bootstrap == "" and not result.pipeline.handlers
    assert list(result.pipeline.topics) == ["one"]
    assert (result.pipeline.topics["one"].partitions, result.pipeline.topics["one"].key) == (3, None)


def test_a_value_that_is_overridden_need_not_be_defined(tmp_path: Path) -> None:
    assert overlaid(tmp_path, "kafka: {bootstrap: h:1}").findings == ()
    assert [finding.code for finding in overlaid(tmp_path).findings] == ["interpolation"]


def test_each_finding_names_its_file_in_the_order_of_the_files(tmp_path: Path) -> None:
    result = overlaid(tmp_path, "kafka: {bootstrap: h:1}\ntopics:\n  one: {partitions: x, foo: 1}\n", "pipeline: P\n")
    assert result.pipeline is None
    places = [(Path(f.file).name, f.line, f.column) for f in result.findings]
    assert places == [("1.yaml", 3, 21), ("1.yaml", 3, 24), ("2.yaml", 1, 11)]


def test_all_files_are_read_before_any_is_refused(tmp_path: Path) -> None:
    result = overlaid(tmp_path, "a: [", "")
    assert [(Path(f.file).name, f.code) for f in result.findings] == [("1.yaml", "yaml"), ("2.yaml", "empty")]


@pytest.mark.parametrize("name", ["nope.yaml", "."])
def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path, name: str) -> None:
    finding = load([tmp_path / name], {}).findings[0]
    assert (finding.code, finding.line) == ("missing-file", 0)


def test_no_file_at_all_is_no_pipeline() -> None:
    assert load([], {}).pipeline is None


def test_paths_begin_at_the_first_file_and_secrets_at_their_own(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "secret").write_text("h:2\n")
    (tmp_path / "schema.json").write_text("{}")
    first = tmp_path / "pipeline.yaml"
    first.write_text("kpipe: 1\npipeline: p\n")
    second = tmp_path / "env" / "prod.yaml"
    second.write_text("kafka: {bootstrap: '${file:secret}'}\ntopics: {t: {schema: schema.json}}\n")
    pipeline = load([first, second], {}).pipeline
    assert pipeline is not None
    assert (pipeline.kafka.bootstrap, pipeline.base) == ("h:2", tmp_path)
    assert pipeline.topics["t"].schema == tmp_path / "schema.json"
