"""Which folder is kpipe's to empty."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.state import MARKER, StateError, check_own, claimed, existing, is_marked, require_own
from tests.support.planted import outside_of, plant


def claim(path: Path) -> bool:
    """Whether the folder has the marker then."""
    with claimed(path) as folder:
        return is_marked(folder)


def may_be_emptied(path: Path) -> bool:
    with existing(path) or pytest.fail("it is not there") as folder:
        try:
            require_own(folder)
        except StateError as refused:
            assert "was not made by kpipe" in refused.message and MARKER in refused.hint
            return False
        return True


def fill(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    return path


@pytest.mark.parametrize("name", [".kpipe", "anything"])
def test_a_folder_that_is_new_or_empty_becomes_kpipes(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty" / name).mkdir(parents=True)
    for path in (tmp_path / "new" / name, tmp_path / "empty" / name):
        assert claim(path) and may_be_emptied(path)
        fill(path, "made-by-a-handler.db")
        assert claim(path) and may_be_emptied(path), "whatever is put into it later"


@pytest.mark.parametrize("names", [("up.lock", "read-model.db"), ("logs/a.log", "x"), ("broker.lock",)])
def test_one_that_an_older_kpipe_made_is_marked_and_closed_to_others(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = fill(tmp_path / ".kpipe", *names)
    path.chmod(0o755)
    assert may_be_emptied(path) and not (path / MARKER).exists()
    assert claim(path) and stat.S_IMODE(path.stat().st_mode) == 0o700


def test_one_that_was_named_by_the_user_is_marked_when_only_kpipes_files_are_in_it(tmp_path: Path) -> None:
    assert claim(fill(tmp_path / "state", "up.lock", "logs/a.log", ".broker.json.0f0f0f0f"))


@pytest.mark.parametrize(
    ("name", "names"), [("home", ("letters.txt", "up.lock", "logs/x")), ("home", (".bashrc",)), (".kpipe", ("x",))]
)
def test_any_other_folder_is_used_but_never_emptied(tmp_path: Path, name: str, names: tuple[str, ...]) -> None:
    path = fill(tmp_path / name, *names)
    path.chmod(0o755)
    assert not claim(path) and not may_be_emptied(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755, "its mode is its owner's business"


@pytest.mark.parametrize("what", ["link", "dangling link", "link to a folder"])
def test_a_link_is_no_marker(tmp_path: Path, what: str) -> None:
    path = fill(tmp_path / "home", "letters.txt")
    plant(path / MARKER, what, outside_of(tmp_path))
    assert not claim(path) and not may_be_emptied(path)


@pytest.mark.parametrize(
    "name", ["up.lock", "broker.json", "instance", "control.path", "logs", "logs/a.log", "journal/x"]
)
@pytest.mark.parametrize("what", ["link", "link to a folder", "fifo"])
def test_a_start_is_refused_where_kpipes_own_files_are_something_else(tmp_path: Path, name: str, what: str) -> None:
    plant(tmp_path / ".kpipe" / name, what, outside_of(tmp_path))
    with claimed(tmp_path / ".kpipe") as folder, pytest.raises(StateError) as refused:
        check_own(folder)
    assert str(tmp_path / ".kpipe" / name) in refused.value.message


def test_what_handlers_keep_there_is_their_business(tmp_path: Path) -> None:
    with claimed(tmp_path / ".kpipe") as folder:
        (tmp_path / ".kpipe" / "read-model.db").symlink_to(os.devnull)
        check_own(folder)
