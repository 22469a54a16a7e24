"""What a project's files may name, and what is never opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.config.reading import VARIABLE, Reach


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a file, beside a folder that is none of its business."""
    base = tmp_path / "repo" / "project"
    base.mkdir(parents=True)
    (base / "own.json").write_text("own")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return base


def reason(reach: Reach, path: Path, most: int = 100) -> str:
    with pytest.raises(OSError) as refused:
        reach.read(path, most)
    return str(refused.value.strerror)


def test_a_file_of_the_project(project: Path) -> None:
    reach = Reach.of(project, {})
    assert reach.read(project / "own.json", 100) == b"own"
    assert reach.read(project / ".." / "project" / "own.json", 3) == b"own" and reach.is_own(project / "own.json")


OUTSIDE = ["../../outside/secret", "../../outside/none", "/dev/zero", "/etc/hostname", "../sibling"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_is_outside_is_refused_whether_it_is_there_or_not(project: Path, path: str) -> None:
    (project.parent / "sibling").write_text("sibling")
    assert reason(Reach.of(project, {}), project / path) == "it is outside of the project"


def test_links_are_followed_before_they_are_judged(project: Path) -> None:
    reach = Reach.of(project, {})
    (project / "inside").symlink_to("own.json")
    (project / "out").symlink_to(project.parent.parent / "outside")
    (project / "loop").symlink_to("loop")
    assert reach.read(project / "inside", 100) == b"own"
    assert reason(reach, project / "out" / "secret") == "it is outside of the project"
    assert reason(reach, project / "loop") == "it is no regular file"
    assert reach.names(project / "out", "") == [] and "own.json" in reach.names(project, ".json")


def test_nothing_but_regular_files_is_opened(project: Path) -> None:
    reach = Reach.of(project, {})
    os.mkfifo(project / "fifo")  # to open it for reading would block for ever
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(project / "socket"))
        assert reason(reach, project / "socket") == "it is no regular file"
    assert reason(reach, project / "fifo") == "it is no regular file"
    assert reason(reach, project) == "Is a directory"
    assert reason(reach, project / "none") == "No such file or directory"
    assert reason(reach, project / "a\0b") == "it is no path"


def test_no_more_than_the_bound_is_read(project: Path) -> None:
    (project / "large").write_bytes(b"x" * 1_000_001)
    assert reason(Reach.of(project, {}), project / "large", 1_000_000) == "it is larger than 1 MB"
    assert len(Reach.of(project, {}).read(project / "large", 1_000_001)) == 1_000_001


@pytest.mark.parametrize("git", ["folder", "file"])
def test_a_git_work_tree_is_one_project(project: Path, git: str) -> None:
    """A worktree and a submodule have a file `.git`."""
    mark = project.parent / ".git"
    mark.mkdir() if git == "folder" else mark.write_text("gitdir: elsewhere")
    (project.parent / "shared.json").write_text("shared")
    assert Reach.of(project, {}).read(project / "../shared.json", 100) == b"shared"
    assert reason(Reach.of(project, {}), project / "../../outside/secret") == "it is outside of the project"


def test_a_git_folder_of_somebody_else_counts_for_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may make `/tmp/.git`."""
    mark = project.parent.parent / ".git"
    mark.mkdir()
    lstat = Path.lstat

    def foreign(self: Path) -> os.stat_result:
        status = lstat(self)
        return os.stat_result((*status[:4], 4711, *status[5:])) if self == mark else status

    assert Reach.of(project, {}).top == mark.parent
    monkeypatch.setattr(Path, "lstat", foreign)
    assert Reach.of(project, {}).top == project


def test_the_users_environment_allows_more(project: Path) -> None:
    outside = project.parent.parent / "outside"
    reach = Reach.of(project, {VARIABLE: f"/nowhere{os.pathsep}{outside}"})
    assert reach.read(outside / "secret", 100) == b"secret"
    assert not reach.is_own(outside / "secret"), "it may be read, and not quoted"
    assert reason(reach, Path("/etc/hostname")) == "it is outside of the project"


def test_the_hint_says_what_allows_it(project: Path) -> None:
    with pytest.raises(OSError) as refused:
        Reach.of(project, {}).read(Path("/etc/hostname"), 100)
    assert f"{VARIABLE}=FOLDER" in getattr(refused.value, "hint", "")
