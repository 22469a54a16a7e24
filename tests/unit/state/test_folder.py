"""An open folder: what is opened in it, and what never is."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.state import Folder, StateError, existing, inner, made, made_inner
from tests.support.planted import outside_of, plant, seen

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what belongs to others")
NOBODY = 65534
SPECIAL = ["link", "link to a folder", "dangling link", "link to /dev/zero", "fifo"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def opened(path: Path) -> Folder:
    folder = existing(path)
    assert folder is not None
    return folder


def test_what_is_made_is_for_this_user_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with made(tmp_path / "a" / "state") as folder, folder.sub("logs"):
            folder.write("one", "text")
            os.close(folder.open("two", os.O_RDWR | os.O_CREAT))
        with made_inner(tmp_path / "b" / "logs"):
            pass
    finally:
        os.umask(before)
    state = tmp_path / "a" / "state"
    assert [mode(path) for path in (state, state / "logs", tmp_path / "b" / "logs")] == [0o700] * 3
    assert [mode(state / name) for name in ("one", "two")] == [0o600] * 2


def test_nothing_there(tmp_path: Path) -> None:
    assert existing(tmp_path / "none") is None
    with opened(tmp_path) as folder:
        assert folder.read("none") is None and folder.stat("none") is None and folder.find("none") is None
        assert folder.read_json("none") is None
        folder.remove("none")
        folder.delete("none")
    with inner(tmp_path / "none" / "logs") as one, inner(tmp_path / "logs") as two:
        assert one is None and two is None


@pytest.mark.parametrize("what", ["link", "link to a folder", "dangling link", "link to /dev/zero", "fifo", "text"])
@pytest.mark.parametrize(
    "use",
    [
        existing,
        made,
        lambda path: opened(path.parent).find(path.name),
        lambda path: opened(path.parent).sub(path.name),
    ],
)
def test_only_a_folder_itself_is_opened_as_one(tmp_path: Path, what: str, use: Callable[[Path], object]) -> None:
    outside = outside_of(tmp_path)
    before = seen(outside)
    plant(tmp_path / "state", what, outside)
    with pytest.raises(StateError) as refused:
        use(tmp_path / "state")
    assert str(tmp_path / "state") in refused.value.message and refused.value.hint and refused.value.exit_code == 2
    assert seen(outside) == before


def test_neither_of_two_folders_may_be_a_link(tmp_path: Path) -> None:
    outside = outside_of(tmp_path)
    (tmp_path / "state").symlink_to(outside)
    for use in (inner, made_inner):
        with pytest.raises(StateError, match="symbolic link"), use(tmp_path / "state" / "deep"):
            pass
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "logs").symlink_to(outside / "deep")
    for use in (inner, made_inner):
        with pytest.raises(StateError, match="logs is a symbolic link"), use(tmp_path / "own" / "logs"):
            pass


def test_links_above_the_folder_are_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "real" / "state").mkdir(parents=True)
    (tmp_path / "way").symlink_to(tmp_path / "real")
    opened(tmp_path / "way" / "state").close()


@pytest.mark.parametrize("what", [*SPECIAL, "folder"])
@pytest.mark.parametrize(
    "flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND | os.O_CREAT]
)
def test_only_a_plain_file_is_opened_and_never_waited_for(tmp_path: Path, what: str, flags: int) -> None:
    outside = outside_of(tmp_path)
    before = seen(outside)
    plant(tmp_path / "file", what, outside)
    with opened(tmp_path) as folder, pytest.raises(StateError, match="file") as refused:
        folder.open("file", flags)
    assert refused.value.hint
    assert seen(outside) == before


def test_a_hard_link_may_be_read_but_not_written_to(tmp_path: Path) -> None:
    outside = outside_of(tmp_path)
    plant(tmp_path / "file", "hard link", outside)
    with opened(tmp_path) as folder:
        assert folder.read("file") == b"precious\n"
        with pytest.raises(StateError, match="hard link"):
            folder.open("file", os.O_WRONLY | os.O_APPEND)
        folder.write("file", "new")
    assert (outside / "precious").read_text() == "precious\n"


@pytest.mark.parametrize("what", [*SPECIAL, "hard link", "text"])
def test_a_file_is_replaced_and_removed_by_its_name(tmp_path: Path, what: str) -> None:
    outside = outside_of(tmp_path)
    for step in (lambda f: f.write("file", "new"), lambda f: f.remove("file"), lambda f: f.delete("file")):
        plant(tmp_path / "file", what, outside)
        with opened(tmp_path) as folder:
            step(folder)
            assert folder.read("file") in (b"new", None)
        (tmp_path / "file").unlink(missing_ok=True)
        assert (outside / "precious").read_text() == "precious\n"
        assert {path.name for path in outside.iterdir()} == {"precious", "deep"}


def test_a_folder_in_a_files_place(tmp_path: Path) -> None:
    (tmp_path / "file" / "kept").mkdir(parents=True)
    with opened(tmp_path) as folder:
        for step in (lambda: folder.write("file", "new"), lambda: folder.remove("file"), lambda: folder.read("file")):
            with pytest.raises(StateError, match="file is a folder, not a file"):
                step()
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing half-written stays"


def test_reading_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    with opened(tmp_path) as folder:
        assert folder.read("file", 11) == b"x" * 11
        with pytest.raises(ValueError, match="more than 10 bytes"):
            folder.read("file", 10)


@pytest.mark.parametrize("text", ["", "{", "[" * 60_000, "9" * 6_000, "\udcff", "{}" * 50_000, " " * 70_000, "nul"])
def test_what_is_no_json_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_bytes(text.encode("utf-8", "surrogateescape"))
    with opened(tmp_path) as folder:
        assert folder.read_json("file") is None


def test_a_tree_is_deleted_without_following_links(tmp_path: Path) -> None:
    outside = outside_of(tmp_path)
    before = seen(outside)
    for at, what in enumerate([*SPECIAL, "hard link", "text", "folder"]):
        plant(tmp_path / "tree" / "deep" / str(at), what, outside)
    with opened(tmp_path) as folder:
        folder.delete("tree")
    assert not (tmp_path / "tree").exists()
    kept = seen(outside)
    assert {name: one[2] for name, one in kept.items()} == {name: one[2] for name, one in before.items()}


@pytest.fixture
def deep_tree(tmp_path: Path) -> Iterator[Path]:
    """A folder `d` in a folder `d` and so on: more of them than pytest's clean-up can delete, so they go here."""
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=handle)
        inside = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inside
    os.close(handle)
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_a_tree_that_is_too_deep_says_so(deep_tree: Path) -> None:
    with opened(deep_tree) as folder:
        with contextlib.suppress(OSError), pytest.raises(StateError, match="too many folders inside each other"):
            folder.delete("d")  # with few open files allowed, an OSError comes first
        with pytest.raises(StateError, match="too many folders inside each other"):
            folder.check()


@pytest.mark.parametrize("what", SPECIAL)
def test_what_another_program_will_open_is_looked_through_first(tmp_path: Path, what: str) -> None:
    plant(tmp_path / "data" / "topic-0" / "0.log", "text", tmp_path)
    with opened(tmp_path) as folder:
        folder.check()
        plant(tmp_path / "data" / "topic-0" / "1.log", what, tmp_path)
        with pytest.raises(StateError, match=r"data/topic-0/1\.log"):
            folder.check()


@ROOT
def test_what_belongs_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "file").write_text("{}")
    for name in ("state", "file"):
        os.chown(tmp_path / name, NOBODY, NOBODY)
    with pytest.raises(StateError, match="belongs to nobody, and kpipe runs as root") as refused:
        existing(tmp_path / "state")
    assert "run it as nobody" in refused.value.hint
    with opened(tmp_path) as folder:
        for use in (lambda: folder.find("state"), lambda: folder.read("file"), lambda: folder.check()):
            with pytest.raises(StateError, match="belongs to nobody"):
                use()


@ROOT
def test_what_belongs_to_root_is_taken_by_others(tmp_path: Path) -> None:
    """As a volume of a container is root's."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    tmp_path.chmod(0o755)
    folder = _as_nobody(lambda: made(Path("state")), tmp_path)
    assert folder == "opened"


@ROOT
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "state" / "logs", tmp_path / "state" / "closed"):
        path.mkdir(parents=True)
    (tmp_path / "state" / "file").touch()
    for name, permissions in (("closed", 0o000), ("file", 0o000), ("", 0o755)):
        (tmp_path / "state" / name).chmod(permissions)
    tmp_path.chmod(0o755)

    def state() -> Folder:
        return opened(Path("state"))

    for use, name in (
        (lambda: state().read("file"), "file"),
        (lambda: state().find("closed"), "closed"),
        (lambda: existing(Path("state/closed")), "closed"),
    ):
        assert _as_nobody(use, tmp_path) == f"state/{name} cannot be opened: Permission denied"


def _as_nobody(use: Callable[[], object], folder: Path) -> str:
    """What becomes of it in a child that is another user."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            use()
            os.write(writing, b"opened")
        except BaseException as problem:
            os.write(writing, str(problem).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        return answer.read()


def test_swapping_a_folder_for_a_link_wins_nothing(tmp_path: Path) -> None:
    """Somebody who can write to the folder above exchanges it all the time."""
    outside = outside_of(tmp_path)
    before = seen(outside)
    (tmp_path / "link").symlink_to(outside)
    state, over = tmp_path / "state", threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                (tmp_path / "real").mkdir(exist_ok=True)
                (tmp_path / "real").rename(state)
                state.rename(tmp_path / "away")
                (tmp_path / "link").rename(state)
                state.rename(tmp_path / "link")
                (tmp_path / "away").rename(tmp_path / "real")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for _ in range(400):
            with contextlib.suppress(OSError, StateError), made(state) as folder:
                folder.write("new", "text")
                with folder.sub("sub") as sub:
                    sub.write("new", "text")
                for name in ("deep", "precious", "sub", "new"):
                    folder.delete(name)
    finally:
        over.set()
        attacker.join()
    assert seen(outside) == before
