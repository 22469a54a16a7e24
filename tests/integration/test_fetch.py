"""Kafka into the cache: by the official release (from a server on loopback), by Maven, and every way it can fail."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.brokers.install import cache, pins
from orchestrator.brokers.install.distribution import find_kafka, provide_kafka
from orchestrator.brokers.install.maven import find_maven
from orchestrator.errors import BrokerError
from tests.support.broker import kafka_in
from tests.support.release_server import JARS, ReleaseServer, serving, sha512, small_release
from tests.support.shell import kpipe

RELEASE = small_release()
THREE_WAYS_OUT = ("install Maven or allow the download", "set KAFKA_HOME", "set KAFKA_BOOTSTRAP", "--kafka docker")

#: A run of its own that can be killed: fetches, and prints each step of the progress.
FETCHER = """
import os, sys
from orchestrator.brokers.install.distribution import provide_kafka
from orchestrator.errors import BrokerError
try:
    provide_kafka(os.environ, lambda step: print(step.text, step.done, flush=True), sha512=sys.argv[1])
except BrokerError as problem:
    sys.exit(problem.message)
"""


@pytest.fixture
def server() -> Iterator[ReleaseServer]:
    with serving(RELEASE) as made:
        yield made


@pytest.fixture
def environ(tmp_path: Path, server: ReleaseServer) -> dict[str, str]:
    """No Kafka anywhere but at the server: PATH without Maven, an empty cache."""
    kept = {name: value for name, value in os.environ.items() if name not in ("KAFKA_HOME", "PATH")}
    return {**kept, "PATH": "/nowhere", "KPIPE_CACHE": str(tmp_path / "cache"), "KPIPE_KAFKA_RELEASE_URL": server.url}


def fetch(environ: Mapping[str, str], checksum: str = sha512(RELEASE)) -> Path:
    return provide_kafka(environ, sha512=checksum).libs


def names(environ: Mapping[str, str]) -> set[str]:
    """What is in the cache, leaving out the lock."""
    root = Path(environ["KPIPE_CACHE"])
    return {path.name for path in root.glob("*")} - {cache.lock_file(root).name} if root.exists() else set()


def failing(environ: Mapping[str, str], checksum: str = sha512(RELEASE)) -> BrokerError:
    """The error of a fetch, which has left nothing behind."""
    with pytest.raises(BrokerError) as caught:
        fetch(environ, checksum)
    assert names(environ) == set()
    assert find_kafka(environ) is None
    assert all(way in caught.value.hint for way in THREE_WAYS_OUT)
    assert caught.value.exit_code == 4
    return caught.value


def fetcher(environ: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCHER, sha512(RELEASE)], env=dict(environ), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


class TestRelease:
    def test_the_jars_and_nothing_else(self, environ: dict[str, str], server: ReleaseServer, tmp_path: Path) -> None:
        libs = fetch(environ)
        assert {jar.name for jar in libs.iterdir()} == set(JARS)
        assert names(environ) == {pins.NAME}
        assert not list(tmp_path.rglob("outside.jar")) and not list(tmp_path.rglob("up.jar"))
        assert fetch(environ) == libs and server.asked == 1

    def test_progress_ends_with_the_whole_size(self, environ: dict[str, str]) -> None:
        seen: list[tuple[int, int | None]] = []
        provide_kafka(
            environ, lambda step: seen.append((step.done, step.total)) if step.done is not None else None,
            sha512=sha512(RELEASE),
        )  # fmt: skip
        assert seen == sorted(seen) and seen[-1] == (len(RELEASE), len(RELEASE))

    def test_a_wrong_checksum(self, environ: dict[str, str]) -> None:
        assert "wrong checksum" in failing(environ, "0" * 128).message

    def test_a_wrong_checksum_on_the_command_line(self, environ: dict[str, str], tmp_path: Path) -> None:
        done = kpipe(tmp_path, "broker", "fetch", env=environ)
        assert done.code == 4 and done.out == ""
        assert "wrong checksum" in done.err and "Traceback" not in done.err
        assert names(environ) == set()

    @pytest.mark.parametrize(
        ("mood", "reason"),
        [("missing", "HTTP 404"), ("broken", "HTTP 500"), ("short", f"ended {(len(RELEASE) + 1) // 2} bytes early")],
        ids=["missing", "broken", "short"],
    )  # fmt: skip
    def test_a_bad_server(self, environ: dict[str, str], server: ReleaseServer, mood: str, reason: str) -> None:
        server.mood = mood  # type: ignore[assignment]
        problem = failing(environ)
        assert reason in problem.message and server.url in problem.message
        server.mood = "well"
        assert fetch(environ)

    def test_no_network(self, environ: dict[str, str]) -> None:
        environ["KPIPE_KAFKA_RELEASE_URL"] = "http://127.0.0.1:1/kafka"
        assert "Connection refused" in failing(environ).message

    def test_a_host_that_does_not_exist(self, environ: dict[str, str]) -> None:
        environ["KPIPE_KAFKA_RELEASE_URL"] = "http://kafka.invalid/kafka"
        assert "kafka.invalid" in failing(environ).message

    def test_an_address_that_is_none(self, environ: dict[str, str]) -> None:
        environ["KPIPE_KAFKA_RELEASE_URL"] = "kafka"
        assert "unknown url type" in failing(environ).message

    def test_an_archive_without_all_that_is_needed(self, environ: dict[str, str], server: ReleaseServer) -> None:
        server.data = small_release(JARS[1:])
        assert f"kafka_{pins.SCALA} is missing" in failing(environ, sha512(server.data)).message

    def test_what_is_no_archive(self, environ: dict[str, str], server: ReleaseServer) -> None:
        server.data = b"<html>please log in</html>"
        assert "cannot be unpacked" in failing(environ, sha512(server.data)).message

    def test_a_cache_that_cannot_be_written(self, environ: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        environ["KPIPE_CACHE"] = str(tmp_path / "file" / "cache")
        assert "could not be put into" in failing(environ).message

    def test_a_damaged_cache_is_fetched_again(self, environ: dict[str, str], server: ReleaseServer) -> None:
        libs = fetch(environ)
        (libs / JARS[0]).write_bytes(b"")
        assert fetch(environ) == libs
        assert server.asked == 2 and (libs / JARS[0]).stat().st_size > 0
        assert names(environ) == {pins.NAME}


class TestInterrupted:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_nothing_that_a_later_run_trusts(
        self, environ: dict[str, str], server: ReleaseServer, how: signal.Signals
    ) -> None:
        server.mood = "hang"
        with fetcher(environ) as child:
            assert server.halfway.wait(30)
            child.send_signal(how)
            assert child.wait(30) != 0
        assert find_kafka(environ) is None
        assert pins.NAME not in names(environ)
        if how is signal.SIGINT:
            assert names(environ) == set()
        server.mood = "well"
        fetch(environ)
        assert names(environ) == {pins.NAME}

    def test_ctrl_c_on_the_command_line(self, environ: dict[str, str], server: ReleaseServer, tmp_path: Path) -> None:
        server.mood = "hang"
        code = "import sys; from orchestrator.cli.main import main; sys.exit(main(['broker', 'fetch']))"
        with subprocess.Popen([sys.executable, "-c", code], env=environ, cwd=tmp_path, stderr=subprocess.PIPE) as child:
            assert server.halfway.wait(30)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=30)
            assert child.returncode == 130 and b"Traceback" not in said
        assert names(environ) == set()


class TestTwoAtOnce:
    def test_the_work_is_done_once_and_the_second_says_that_it_waits(
        self, environ: dict[str, str], server: ReleaseServer
    ) -> None:
        server.mood = "hang"
        with fetcher(environ) as first, fetcher(environ) as second:
            assert server.halfway.wait(30)
            # Either may be the first; the other one's first line says that it waits.
            assert first.stdout is not None and second.stdout is not None
            lines = [first.stdout.readline(), second.stdout.readline()]
            assert sorted(lines)[0] == "Another kpipe is fetching Kafka: waiting None\n"
            server.go_on.set()
            assert first.wait(30) == 0 and second.wait(30) == 0
        assert server.asked == 1
        assert names(environ) == {pins.NAME}

    def test_when_the_first_is_killed_the_second_takes_over(
        self, environ: dict[str, str], server: ReleaseServer
    ) -> None:
        server.mood = "hang"
        with fetcher(environ) as first:
            assert server.halfway.wait(30)
            with fetcher(environ) as second:
                assert second.stdout is not None and "waiting" in second.stdout.readline()
                server.mood = "well"
                first.kill()
                assert second.wait(30) == 0
        assert server.asked == 2
        assert names(environ) == {pins.NAME}


class TestFullDisk:
    def test_no_space(self, environ: dict[str, str], server: ReleaseServer, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        environ["KPIPE_CACHE"] = str(disk / "cache")
        # A file system of 256 KB that is gone with the process: a mount of its own needs no root on most systems.
        mount = 'mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@"'
        words = ["unshare", "-rm", "sh", "-c", mount, str(disk), sys.executable, "-c", FETCHER, sha512(RELEASE)]
        if not _can_mount(disk):
            pytest.skip("no file system can be mounted here")
        done = subprocess.run(
            words, env={**environ, "PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("no space left for Kafka in ")

    def test_no_space_by_any_other_name(
        self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The same on systems where nothing can be mounted: the jars are unpacked, and the disk is full then."""
        import errno

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfileobj", full)
            problem = failing(environ)
        assert problem.message.startswith(f"no space left for Kafka in {environ['KPIPE_CACHE']}")
        assert "KPIPE_CACHE" in problem.message
        assert fetch(environ)


def _can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


class TestMaven:
    @pytest.fixture
    def maven(self, tmp_path: Path, environ: dict[str, str]) -> Path:
        """A program named `mvn` on the PATH, whose body each test writes."""
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "mvn"
        program.touch(0o755)
        environ["PATH"] = f"{tmp_path / 'bin'}:/bin:/usr/bin"
        return program

    def write(self, maven: Path, body: str) -> None:
        maven.write_text(
            f'#!/bin/sh\nfor word; do case "$word" in -DoutputDirectory=*) out="${{word#*=}}";; esac; done\n{body}\n'
        )

    def jars(self, tmp_path: Path) -> Path:
        """A folder with jars, as a repository would give them."""
        with tarfile.open(fileobj=io.BytesIO(RELEASE), mode="r:gz") as tar:
            for jar in JARS:
                tar.extract(f"{pins.NAME}/libs/{jar}", tmp_path / "repository", filter="data")
        return tmp_path / "repository" / pins.NAME / "libs"

    def test_it_is_asked_first(
        self,
        environ: dict[str, str],
        maven: Path,
        server: ReleaseServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        del environ["KPIPE_KAFKA_RELEASE_URL"]
        monkeypatch.setattr(pins, "RELEASE_URLS", (server.url,))
        checksums = {jar.name: cache.checksum(jar) for jar in self.jars(tmp_path).iterdir()}
        monkeypatch.setattr(pins, "jars", lambda: checksums)
        self.write(
            maven,
            f'mkdir "$out"; cp {self.jars(tmp_path)}/*.jar "$out"; echo "$@" > {tmp_path}/words; cp pom.xml {tmp_path}',
        )
        fetch(environ)
        words, pom = (tmp_path / "words").read_text(), (tmp_path / "pom.xml").read_text()
        assert "--strict-checksums" in words and f"{pins.MAVEN_PLUGIN}:copy-dependencies" in words
        assert f"<version>{pins.VERSION}</version>" in pom and f"<artifactId>kafka_{pins.SCALA}</artifactId>" in pom
        assert server.asked == 0 and names(environ) == {pins.NAME}

    def test_a_release_url_of_ones_own_goes_before_it(
        self, environ: dict[str, str], maven: Path, server: ReleaseServer
    ) -> None:
        self.write(maven, "exit 1")
        fetch(environ)
        assert server.asked == 1

    def test_when_it_fails_the_release_is_tried_and_that_is_said(
        self, environ: dict[str, str], maven: Path, server: ReleaseServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        del environ["KPIPE_KAFKA_RELEASE_URL"]
        monkeypatch.setattr(pins, "RELEASE_URLS", (server.url,))
        self.write(maven, 'mkdir -p "$out"; echo rest > "$out/half.jar"; echo "[ERROR] no such mirror"; exit 3')
        said: list[str] = []
        kafka = provide_kafka(environ, lambda step: said.append(step.text), sha512=sha512(RELEASE))
        assert any("Maven" in line and "no such mirror" in line and "official release" in line for line in said)
        assert {jar.name for jar in kafka.libs.iterdir()} == set(JARS)

    def test_when_both_fail_both_reasons_are_given(
        self, environ: dict[str, str], maven: Path, server: ReleaseServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        del environ["KPIPE_KAFKA_RELEASE_URL"]
        monkeypatch.setattr(pins, "RELEASE_URLS", (f"{server.url}/a", f"{server.url}/b"))
        server.mood = "missing"
        self.write(maven, 'echo "[ERROR] no such mirror"; echo "[ERROR] read more"; exit 3')
        message = failing(environ).message
        assert "no such mirror" in message and "/a/" in message and "/b/" in message and "HTTP 404" in message

    @pytest.mark.parametrize(
        ("harm", "reason"),
        [
            ('echo cut > "$out/other-1.jar"', "Maven brought other-1.jar with the wrong checksum"),
            ('rm "$out/other-1.jar"', "other-1.jar is missing"),
            ('cp "$out/other-1.jar" "$out/another-1.jar"', "Maven brought another-1.jar, which is no part of Kafka"),
        ],
        ids=["changed", "missing", "more"],
    )  # fmt: skip
    def test_jars_that_are_not_the_pinned_ones(
        self, environ: dict[str, str], maven: Path, server: ReleaseServer, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, harm: str, reason: str,
    ) -> None:  # fmt: skip
        del environ["KPIPE_KAFKA_RELEASE_URL"]
        server.mood = "missing"
        monkeypatch.setattr(pins, "RELEASE_URLS", (server.url,))
        checksums = {jar.name: cache.checksum(jar) for jar in self.jars(tmp_path).iterdir()}
        monkeypatch.setattr(pins, "jars", lambda: checksums)
        self.write(maven, f'mkdir "$out"; cp {self.jars(tmp_path)}/*.jar "$out"; {harm}')
        assert reason in failing(environ).message
        assert server.asked == 1

    def test_it_does_not_outlive_an_interrupt(self, environ: dict[str, str], maven: Path, tmp_path: Path) -> None:
        del environ["KPIPE_KAFKA_RELEASE_URL"]
        os.mkfifo(tmp_path / "alive")
        self.write(maven, f"echo started; exec sleep 60 > {tmp_path}/alive")
        with fetcher(environ) as child, (tmp_path / "alive").open("rb") as held:  # opens once Maven runs
            child.send_signal(signal.SIGINT)
            assert child.wait(30) != 0
            assert held.read() == b""  # returns when nobody has the other end any more
        assert names(environ) == set()

    def test_the_real_one(self, environ: dict[str, str]) -> None:
        """Jars that Maven has fetched on this machine before are not fetched again: it keeps its own cache."""
        if find_maven(os.environ) is None:
            pytest.skip("no Maven on this machine")
        del environ["KPIPE_KAFKA_RELEASE_URL"]
        libs = provide_kafka({**environ, "PATH": os.environ["PATH"]}).libs
        assert (libs / f"kafka_{pins.SCALA}-{pins.VERSION}.jar").is_file()
        assert (libs / f"log4j-core-{pins.LOG4J}.jar").is_file()
        assert '"source": "maven"' in (libs.parent / "kpipe.json").read_text()


@pytest.mark.kafka
class TestBrokerFromEverywhere:
    """Kafka itself, out of each of the places it may come from."""

    @pytest.fixture
    def libs(self) -> Path:
        return provide_kafka(os.environ).libs

    def test_out_of_the_official_release(
        self, libs: Path, environ: dict[str, str], server: ReleaseServer, tmp_path: Path
    ) -> None:
        archive = tmp_path / pins.ARCHIVE
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(libs, f"{pins.NAME}/libs")
        server.data = archive.read_bytes()
        fetch(environ, sha512(server.data))
        with kafka_in(tmp_path / ".kpipe", {**environ, "PATH": os.environ["PATH"]}) as address:
            assert address.startswith("127.0.0.1:")
        assert server.asked == 1

    def test_out_of_kafka_home(
        self, libs: Path, environ: dict[str, str], server: ReleaseServer, tmp_path: Path
    ) -> None:
        own = {**environ, "PATH": os.environ["PATH"], "KAFKA_HOME": str(libs.parent)}
        with kafka_in(tmp_path / ".kpipe", own) as address:
            assert address.startswith("127.0.0.1:")
        assert server.asked == 0 and names(environ) == set()
