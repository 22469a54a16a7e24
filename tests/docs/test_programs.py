"""docs/security.md names every program that kpipe starts: each place that starts one has its row there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

#: Where programs are started -> which of the table's.
SITES: dict[str, tuple[str, ...]] = {
    "brokers/compose.py:_docker": ("docker",),
    "brokers/install/java.py:_asked": ("java",),
    "brokers/local.py:_start_once": ("Kafka",),
    "brokers/install/maven.py:_run": ("mvn",),
    "brokers/storage.py:_run_tool": ("Kafka",),
    "cli/running/detach.py:detach": ("kpipe",),
    "operations/schemas/git.py:run": ("git",),
    "operations/smoke/sandbox.py:start": ("kpipe",),
    "shim.py:become": ("Kafka", "kpipe", "handlers"),
    "shim.py:start": ("Kafka", "kpipe", "handlers"),
    "supervisor/child.py:_start": ("Kafka", "kpipe", "handlers"),
    "worker/runners/interpreter.py:_run": ("handlers",),
    "worker/runners/child_program.py:_start": ("handlers",),
}
#: Modules whose functions start programs, and which of them; None for all that is called of them.
STARTING: dict[str, str | None] = {
    "subprocess": None,
    "os": r"exec\w+|spawn\w+|posix_spawnp?|system|popen|fork|forkpty|startfile",
    "asyncio": r"create_subprocess_\w+",
    "multiprocessing": None,
    "pty": None,
    "webbrowser": None,
    "click": r"edit|launch|echo_via_pager",
    "uuid": r"uuid1|getnode",
    "ctypes.util": "find_library",
    "platform": r"processor|libc_ver|architecture|uname",
}
#: Calls of these modules that start nothing, and classes that do when they are made.
HARMLESS = {"subprocess": r"TimeoutExpired|CompletedProcess"}
#: Imported by name they would be hidden from this test.
BY_NAME = {"ProcessPoolExecutor", "Process", "Popen"}


class Calls(ast.NodeVisitor):
    """The calls that start programs, with the function around each."""

    def __init__(self) -> None:
        self.around = ["module"]
        self.found: list[tuple[str, ast.Call]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.around.append(node.name)
        self.generic_visit(node)
        self.around.pop()

    def visit_Call(self, node: ast.Call) -> None:
        module, _, name = ast.unparse(node.func).rpartition(".")
        if module in STARTING:
            pattern = STARTING[module]
            harmless = re.fullmatch(HARMLESS.get(module, r"(?!)"), name)
            if not harmless and (pattern is None or re.fullmatch(pattern, name)):
                self.found.append((self.around[-1], node))
        self.generic_visit(node)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "orchestrator").rglob("*.py")):
        if "template" not in path.parts:
            yield str(path.relative_to(ROOT / "orchestrator")), ast.parse(path.read_text(encoding="utf-8"))


def starts() -> Iterator[tuple[str, ast.Call]]:
    for name, tree in sources():
        calls = Calls()
        calls.visit(tree)
        yield from ((f"{name}:{function}", call) for function, call in calls.found)


def rows() -> dict[str, list[str]]:
    """Program -> its row: when, found, environment, folder."""
    table = PAGE.split("\n## Programs that kpipe starts\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert cells[0] == ["program", "when", "found", "environment", "folder"]
    return {row[0].strip("`"): row[1:] for row in cells[2:]}


def test_every_place_that_starts_a_program_is_listed() -> None:
    assert {site for site, _ in starts()} == SITES.keys()


def test_every_program_has_its_row_and_no_row_is_empty() -> None:
    table = rows()
    assert table.keys() == {program for programs in SITES.values() for program in programs}
    assert all(len(row) == 4 and all(row) for row in table.values())


@pytest.mark.parametrize("site", sorted(SITES))
def test_it_is_started_with_an_environment_and_a_folder_that_were_chosen(site: str) -> None:
    """None of them inherits by accident what kpipe has; and no shell reads the words."""
    for call in (call for where, call in starts() if where == site):
        if not ast.unparse(call.func).startswith("subprocess."):
            continue  # a fork, or a program that takes the place of the shim: both have what the shim was given
        given = {keyword.arg for keyword in call.keywords}
        assert {"env", "stdin"} <= given and "shell" not in given
        # Docker is told its files by absolute paths.
        assert "cwd" in given or site == "brokers/compose.py:_docker"


def test_nothing_is_imported_in_a_way_that_this_test_does_not_see() -> None:
    for name, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                taken = {alias.name for alias in node.names}
                hidden = node.module in STARTING and any(
                    STARTING[node.module] is None or re.fullmatch(STARTING[node.module] or "", one) for one in taken
                )
                assert not hidden and not taken & BY_NAME, (name, node.module, taken)
            if isinstance(node, ast.Import):
                assert not any(alias.asname for alias in node.names if alias.name in STARTING), name


def test_programs_are_looked_for_in_one_way() -> None:
    """`shutil.which` and the search of `execvp` take the working folder for a part of the PATH."""
    callers = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("shutil.which", "os.execvp")
    }
    assert callers == {"programs.py", "shim.py"}
