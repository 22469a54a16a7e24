"""Which files of a project a Python program consists of: what it imports, and what that imports, without running it.

Only what stands in `import` statements is seen, those inside functions included; not what is imported by a name that
the program makes up. Modules from outside of the folder do not count.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.config.reading import MAX_SOURCE, Reach


def files_of(starts: Iterable[Path], base: Path) -> frozenset[Path]:
    """`starts` and every file under `base` that they import in the end; all paths absolute."""
    found: set[Path] = set()
    ahead = list(starts)
    reach = Reach.of(base, os.environ)
    while ahead:
        path = ahead.pop()
        if path not in found:
            found.add(path)
            ahead.extend(other for other in _imported(path, base, reach) if base in other.parents)
    return frozenset(found)


def module_files(name: str, base: Path) -> list[Path]:
    """What importing `name` runs of the files under `base`: the packages on the way, and the module."""
    parts = name.split(".")
    found = []
    for end in range(1, len(parts) + 1):
        place = base.joinpath(*parts[:end])
        found += [path for path in (place.with_name(f"{place.name}.py"), place / "__init__.py") if path.is_file()]
    if found and (main := base.joinpath(*parts) / "__main__.py").is_file():
        found.append(main)
    return found


def _imported(path: Path, base: Path, reach: Reach) -> Iterator[Path]:
    try:
        tree = ast.parse(reach.read(path, MAX_SOURCE))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from module_files(alias.name, base)
        elif isinstance(node, ast.ImportFrom):
            start = base if node.level == 0 else path.parents[min(node.level, len(path.parents)) - 1]
            prefix = [node.module] if node.module else []
            for alias in node.names:
                # `from a import b`: b may be a module of its own.
                yield from module_files(".".join([*prefix, alias.name]), start)
            if prefix:
                yield from module_files(prefix[0], start)
