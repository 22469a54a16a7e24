"""The commands that docs/security.md calls safe, in projects that somebody hostile wrote.

They run no code of the project, open nothing outside of it, talk to nobody, and end within bounds of time and memory.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support import hostile, watched
from tests.support.hostile import CANARY, COSTS, REACHES, Case
from tests.support.watched import Watched, by_hook, by_strace, foreign

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
#: Each safe command, how it is tried, and the programs that it may start.
COMMANDS = {
    "kpipe validate": (("validate",), ()),
    "kpipe graph": (("graph", "--json"), ()),
    "kpipe schemas show": (("schemas", "show", "order"), ()),
    "kpipe schemas check": (("schemas", "check"), ("git",)),
    "kpipe schemas check --against FOLDER": (("schemas", "check", "--against", "earlier"), ()),
    "kpipe completion": (("completion", "bash"), ()),
    "kpipe COMMAND --help": (("up", "--help"), ()),
    "kpipe --version": (("--version",), ()),
}
#: What a shell runs when somebody asks it to complete the name of an event.
COMPLETING = {"_KPIPE_COMPLETE": "bash_complete", "COMP_WORDS": "kpipe send ", "COMP_CWORD": "2"}
#: Megabytes that no command may need.
MOST = 1_000


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that nobody should ask, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()


@pytest.fixture(params=["strace", "hook"])
def watch(request: pytest.FixtureRequest) -> Callable[..., Watched]:
    """One of the observers. Without strace its half is skipped, save where it has to be there."""
    if request.param == "hook":
        return by_hook
    if missing := watched.strace_works():
        assert not os.environ.get(watched.REQUIRED), missing
        pytest.skip(missing)
    return by_strace


def made(case: Case, folder: Path, url: str) -> hostile.Scene:
    scene = hostile.scene(folder, url)
    case.make(scene)
    return scene


def assert_harmless(ran: Watched, scene: hostile.Scene, asked: list[str], programs: tuple[str, ...] = ()) -> None:
    assert ran.code in (0, 2, 3), ran.output[:2000]
    assert "please report" not in ran.output and CANARY not in ran.output
    assert not (scene.outside / "ran").exists(), "code of the project ran"
    assert asked == [] and ran.connected == ()
    started = [name for name in ran.started if Path(name.strip("'")).name not in programs]
    assert started == []
    assert foreign(ran.opened, scene.project, programs) == []
    assert ran.peak < MOST


@pytest.mark.parametrize("name", REACHES)
def test_validate_stays_in_the_project(
    name: str, tmp_path: Path, server: tuple[str, list[str]], watch: Callable[..., Watched]
) -> None:
    url, asked = server
    scene = made(REACHES[name], tmp_path, url)
    ran = watch(scene.project, "validate")
    assert REACHES[name].message in ran.output
    assert_harmless(ran, scene, asked)


@pytest.mark.parametrize("name", ["schema-up", "schema-link", "ref-up", "ref-file", "example-link", "folder-link"])
def test_what_the_user_allows_is_read_and_not_quoted(name: str, tmp_path: Path) -> None:
    scene = made(REACHES[name], tmp_path, "http://127.0.0.1:9")
    ran = by_hook(scene.project, "validate", env={"KPIPE_ALLOW_FILES": str(scene.outside)})
    opened = {path for path in ran.opened if path.startswith(str(scene.outside))}
    assert ran.code == 2 and len(opened) == 1
    assert "nothing of it is shown" in ran.output and CANARY not in ran.output


@pytest.mark.parametrize("name", COSTS)
def test_validate_ends(name: str, tmp_path: Path, server: tuple[str, list[str]]) -> None:
    url, asked = server
    scene = made(COSTS[name], tmp_path, url)
    ran = by_hook(scene.project, "validate")
    assert COSTS[name].message in ran.output
    assert_harmless(ran, scene, asked)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["modules", "state", "git", "ref-http", "siblings", "smoke-link", "pipeline-link"])
def test_every_safe_command_stays_in_the_project(
    command: str, name: str, tmp_path: Path, server: tuple[str, list[str]], watch: Callable[..., Watched]
) -> None:
    words, programs = COMMANDS[command]
    url, asked = server
    scene = hostile.scene(tmp_path, url)
    scene.write("earlier/order.json", {"type": "object"})
    commit(scene)
    REACHES[name].make(scene)
    assert_harmless(watch(scene.project, *words), scene, asked, programs)


def commit(scene: hostile.Scene) -> None:
    """An earlier version of the schema, which is not the one that is there now."""
    git = ["git", "-C", str(scene.project), "-c", "user.name=a", "-c", "user.email=a@b"]
    blob = subprocess.run(
        [*git, "hash-object", "-w", "--no-filters", "--stdin"], input=b"{}", capture_output=True, check=True
    )
    entry = f"100644,{blob.stdout.decode().strip()},order.json"
    subprocess.run([*git, "update-index", "--add", "--cacheinfo", entry], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "earlier"], check=True)


def test_completing_a_name_stays_in_the_project(
    tmp_path: Path, server: tuple[str, list[str]], watch: Callable[..., Watched]
) -> None:
    url, asked = server
    scene = made(REACHES["modules"], tmp_path, url)
    ran = watch(scene.project, env=COMPLETING)
    assert "plain,order" in ran.output
    assert_harmless(ran, scene, asked)


@pytest.mark.parametrize("name", hostile.COMPARED)
def test_comparing_ends(name: str, tmp_path: Path, server: tuple[str, list[str]]) -> None:
    url, asked = server
    earlier, now, message = hostile.COMPARED[name]
    scene = hostile.scene(tmp_path, url)
    scene.write("earlier/order.json", earlier)
    scene.write("order.json", now)
    scene.write("pipeline.yaml", hostile.FILE.replace(", example: example.json", "").replace("key: id, ", ""))
    ran = by_hook(scene.project, "schemas", "check", "--against", "earlier")
    assert message in ran.output
    assert_harmless(ran, scene, asked)


@pytest.mark.parametrize("name", hostile.MADE_UP)
def test_making_up_an_example_ends(name: str, tmp_path: Path, server: tuple[str, list[str]]) -> None:
    url, asked = server
    scene = hostile.scene(tmp_path, url)
    scene.write("order.json", hostile.MADE_UP[name])
    scene.write("pipeline.yaml", hostile.FILE.replace(", example: example.json", "").replace("key: id, ", ""))
    ran = by_hook(scene.project, "schemas", "show", "orders")
    assert ran.code == 0, ran.output[:2000]
    assert "none can be made up" in ran.output
    assert_harmless(ran, scene, asked)


def test_the_page_lists_these_commands() -> None:
    text = SECURITY.read_text("utf-8")
    section = text.partition("### Safe\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(kpipe [^`]*)`", section, re.MULTILINE)) == set(COMMANDS)
