"""docs/pipeline-file.md and smoke.md say what the code does: tables are generated, examples are run.

After a change of the grammar: KPIPE_UPDATE_DOCS=1 python -m pytest tests/docs/test_pipeline_file.py
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.config.reference import owned, reference, smoke_reference
from tests.support.config import loaded
from tests.support.shell import kpipe

PAGE = Path(__file__).parents[2] / "docs" / "pipeline-file.md"
SMOKE = PAGE.with_name("smoke.md")
EXAMPLE = re.compile(r"```yaml\n(kpipe: 1\n.*?)```", re.DOTALL)


def generated(page: str, name: str, text: str) -> str:
    block = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end -->)", re.DOTALL)
    assert len(block.findall(page)) == 1
    return block.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", page)


def test_the_tables_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    right = generated(generated(page, "owned", owned()), "reference", reference())
    smoke = generated(SMOKE.read_text(encoding="utf-8"), "smoke", smoke_reference())
    if os.environ.get("KPIPE_UPDATE_DOCS"):
        PAGE.write_text(right, encoding="utf-8")
        SMOKE.write_text(smoke, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == right
    assert SMOKE.read_text(encoding="utf-8") == smoke


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (tmp_path / "schemas" / "examples").mkdir(parents=True)
    schema = '{"properties": {"orderId": {}, "eventId": {}}}'
    (tmp_path / "schemas" / "order.json").write_text(schema)
    (tmp_path / "schemas" / "examples" / "order.json").write_text("{}")
    return tmp_path


def test_the_example_is_valid(example: Path) -> None:
    [text] = EXAMPLE.findall(PAGE.read_text(encoding="utf-8"))
    assert loaded(example, text).findings == ()


def test_the_findings_shown_are_those_of_the_command(example: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    [text] = EXAMPLE.findall(page)
    text = text.replace("orders: {schema", "orders: {partitons: 3, schema", 1).replace(
        "{topic: orders,", "{topic: order,"
    )
    (example / "pipeline.yaml").write_text(text)
    done = kpipe(example, "validate")
    [shown] = re.findall(r"```\n\$ kpipe validate\n(.*?)```", page, re.DOTALL)
    assert (done.code, done.out + done.err) == (2, shown)


def test_the_pipeline_file_of_this_repository_is_valid() -> None:
    result = load([PAGE.parents[1] / "pipeline.yaml"], {})
    assert result.pipeline is not None and result.findings == ()
