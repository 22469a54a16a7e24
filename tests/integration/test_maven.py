"""Maven among files that anybody may have planted: where it runs, what it gets, and what it reads above its folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.brokers.install import cache, pins
from orchestrator.brokers.install.maven import environment, fetch_by_maven, find_maven
from orchestrator.brokers.model import quiet
from orchestrator.errors import BrokerError

FETCHER = "import os; from orchestrator.brokers.install.distribution import provide_kafka; provide_kafka(os.environ)"


@pytest.fixture
def real() -> Path:
    maven = find_maven(os.environ)
    if maven is None:
        pytest.skip("no Maven on this machine")
    return maven


class TestPlanted:
    @pytest.mark.parametrize("above", ["the temporary folder", "the cache"])
    def test_a_planted_folder_is_not_read(self, real: Path, tmp_path: Path, above: str) -> None:
        """`.mvn/jvm.config` has options for the JVM: an agent is code, and one that does not exist ends Maven."""
        planted = tmp_path / "planted"
        (planted / ".mvn").mkdir(parents=True)
        (planted / ".mvn" / "jvm.config").write_text("-javaagent:/nowhere/planted.jar\n")
        (planted / "tmp").mkdir()
        root = planted / "cache" if above == "the cache" else tmp_path / "cache"
        environ = {**os.environ, "TMPDIR": str(planted / "tmp"), "KPIPE_CACHE": str(root)}
        environ = {name: value for name, value in environ.items() if not name.startswith(("KAFKA_", "KPIPE_KAFKA"))}
        done = subprocess.run([sys.executable, "-c", FETCHER], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert '"source": "maven"' in (root / pins.NAME / "kpipe.json").read_text()

    def test_another_folder_by_a_variable(self, real: Path, tmp_path: Path) -> None:
        """MAVEN_BASEDIR is where Maven would look for `.mvn` instead."""
        (tmp_path / "planted" / ".mvn").mkdir(parents=True)
        (tmp_path / "planted" / ".mvn" / "jvm.config").write_text("-javaagent:/nowhere/planted.jar\n")
        made = tmp_path / "made"
        made.mkdir()
        fetch_by_maven(real, made, {**os.environ, "MAVEN_BASEDIR": str(tmp_path / "planted")}, quiet)
        assert {jar.name for jar in (made / "libs").iterdir()} == pins.jars().keys()
        assert [path.name for path in made.iterdir()] == ["libs"]


class TestSettings:
    def test_a_mirror_in_the_users_settings_counts(self, real: Path, tmp_path: Path) -> None:
        """One that cannot be reached, named by a variable, with an empty repository: Maven asks it, and fails."""
        home = tmp_path / "home"
        (home / ".m2").mkdir(parents=True)
        (home / ".m2" / "settings.xml").write_text(
            "<settings><mirrors><mirror><id>own</id><mirrorOf>*</mirrorOf><url>${env.OWN_MIRROR}</url></mirror></mirrors>"
            f"<localRepository>{tmp_path / 'repository'}</localRepository></settings>"
        )
        (tmp_path / "made").mkdir()
        environ = {
            **os.environ, "HOME": str(home), "MAVEN_OPTS": f"-Duser.home={home}", "OWN_MIRROR": "http://127.0.0.1:1/own"
        }  # fmt: skip
        with pytest.raises(BrokerError, match=r"own \(http://127\.0\.0\.1:1/own\)"):
            fetch_by_maven(real, tmp_path / "made", environ, quiet)

    def test_maven_gets_what_its_settings_refer_to_and_no_other_secret(self, tmp_path: Path) -> None:
        home, maven = tmp_path / "home", tmp_path / "maven" / "bin" / "mvn"
        for folder in (home / ".m2", maven.parent, maven.parent.parent / "conf"):
            folder.mkdir(parents=True)
        maven.touch()
        (home / ".m2" / "settings.xml").write_text("<password>${env.NEXUS_PASSWORD}</password>")
        (maven.parent.parent / "conf" / "settings.xml").write_text("<name>env.CI</name>")
        (tmp_path / "other.xml").write_text("${env.OTHER}")
        kept = {
            "HOME": str(home), "PATH": "/usr/bin", "NEXUS_PASSWORD": "a", "CI": "true", "OTHER": "b",
            "MAVEN_ARGS": f"-X --settings {tmp_path / 'other.xml'}", "MAVEN_OPTS": "-Xmx1g",
            "HTTPS_PROXY": "http://user:password@proxy",
        }  # fmt: skip
        gone = {"DB_PASSWORD": "c", "MAVEN_BASEDIR": "/planted", "MAVEN_CONFIG": "-X", "MAVEN_DEBUG_OPTS": "-Xdebug"}
        assert environment(maven, kept | gone) == kept

    def test_programs_are_not_looked_for_in_the_working_folder(self, tmp_path: Path) -> None:
        found = environment(tmp_path / "mvn", {"PATH": f".::bin:/usr/bin:{tmp_path}"})
        assert found["PATH"] == f"/usr/bin:{tmp_path}"


def test_the_pinned_jars_are_those_of_the_repository(real: Path, tmp_path: Path) -> None:
    """Maven itself compares each with the checksum that its repository publishes."""
    fetch_by_maven(real, tmp_path, os.environ, quiet)
    assert {jar.name: cache.checksum(jar) for jar in (tmp_path / "libs").iterdir()} == pins.jars()
