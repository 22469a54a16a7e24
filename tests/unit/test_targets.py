"""Modules that are named in strings: each is there, can be run, and stands in one table."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator.cli.main import COMMANDS, MODULES
from orchestrator.targets import Target

PACKAGE = Path(orchestrator.__file__).parent
#: Where such names may stand: the two tables, and what another Python loads by name.
TABLES = {"targets.py", "cli/main.py", "cli/project/init.py", "worker/runners/interpreter_main.py"}


def source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    if spec.submodule_search_locations:
        return (Path(spec.origin).parent / "__main__.py").read_text(encoding="utf-8")
    return Path(spec.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("target", Target)
def test_a_target_can_be_run(target: Target) -> None:
    assert 'if __name__ == "__main__":' in source(target)


def test_every_command_has_its_module() -> None:
    assert list(MODULES) and set(MODULES) == set(COMMANDS)
    for module in MODULES.values():
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        assert spec.origin is not None and "def command(" in Path(spec.origin).read_text(encoding="utf-8"), module


def strings(path: Path) -> Iterator[str]:
    """The strings of a file, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_no_other_string_names_a_module() -> None:
    named = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(re.search(r"\borchestrator\.[a-z]", text) for text in strings(path))
    }
    assert named <= TABLES
    assert "targets.py" in named
