"""The rules of the house (docs/architecture.md, "Layers"), as far as they can be counted."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator

PACKAGE = Path(orchestrator.__file__).parent
ROOT = PACKAGE.parent
#: More modules than this in one folder are more than one idea.
MOST_MODULES = 15


def folders() -> Iterator[Path]:
    return (path.parent for path in sorted(PACKAGE.rglob("__init__.py")) if "template" not in path.parts)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {
    name_of(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if "template" not in path.parts
}


@pytest.mark.parametrize("folder", list(folders()), ids=name_of)
def test_a_folder_has_one_idea_and_few_modules(folder: Path) -> None:
    idea = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert idea and idea.split("\n\n")[0].rstrip().endswith((".", ")")), "its docstring says the idea in a sentence"
    modules = [path for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(modules) <= MOST_MODULES


def test_no_public_class_name_is_there_twice() -> None:
    places = defaultdict(list)
    for module, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def imports(module: str) -> Iterator[str]:
    """What a module imports of the package when it is imported itself."""
    for node in TREES[module].body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in TREES else node.module


def circles() -> list[list[str]]:
    """Groups of modules each of which imports, by others, itself (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in imports(module):
            if other not in TREES or other == module:
                continue
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                result.append(stack[at:])
            del stack[at:]

    for module in TREES:
        if module not in index:
            visit(module)
    return result


def test_no_circle_of_imports() -> None:
    assert circles() == []
