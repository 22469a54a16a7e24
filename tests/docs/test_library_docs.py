"""docs/library.md: every module and name in it exists, and the code block is complete Python."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
[SCRIPT] = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
IMPORTS = [
    (node.module, alias.name)
    for node in ast.walk(ast.parse(SCRIPT))
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]
ROWS = [
    (module, name)
    for names, module in re.findall(r"^\| (`[^|]+`) \| `(orchestrator\.[\w.]+)` \|", PAGE, flags=re.MULTILINE)
    for name in re.findall(r"`([\w.]+)`", names)
]


def test_the_page_has_a_script_and_a_table() -> None:
    assert len(IMPORTS) >= 5 and len(ROWS) >= 8


@pytest.mark.parametrize(("module", "name"), [*IMPORTS, *ROWS])
def test_every_name_of_the_page_exists(module: str, name: str) -> None:
    there = importlib.import_module(module)
    for part in name.split("."):
        there = getattr(there, part)
    assert there.__doc__
