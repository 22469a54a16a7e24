"""The cache of Kafka's jars: whose it is, what others may do in it, and what a start takes from it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from orchestrator.brokers.install import cache, pins
from orchestrator.brokers.install.distribution import find_kafka, provide_kafka
from orchestrator.brokers.jvm import class_path
from orchestrator.errors import BrokerError

JARS = ("a.jar", "b.jar")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A cache that is looked for and not there; nothing can be fetched."""
    return {"KPIPE_CACHE": str(tmp_path / "cache"), "KPIPE_KAFKA_RELEASE_URL": "http://127.0.0.1:1/", "PATH": ""}


@pytest.fixture(autouse=True)
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Two small jars instead of Kafka's."""
    (tmp_path / "jars").mkdir()
    for name in JARS:
        (tmp_path / "jars" / name).write_text(name)
    checksums = {name: cache.checksum(tmp_path / "jars" / name) for name in JARS}
    monkeypatch.setattr(pins, "jars", lambda: checksums)
    return checksums


def publish(root: Path, source: str = "maven") -> Path:
    with cache.aside(root) as made:
        (made / "libs").mkdir()
        for name in JARS:
            (made / "libs" / name).write_text(name)
        cache.publish(made, root, source)
    return cache.folder(root)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def by_an_older_kpipe(kafka: Path) -> None:
    """Sizes are all that it wrote down, and its folders were for everybody to read."""
    manifest = json.loads((kafka / "kpipe.json").read_text())
    del manifest["sha256"]
    (kafka / "kpipe.json").write_text(json.dumps(manifest))
    for folder in (kafka.parent, kafka, kafka / "libs"):
        folder.chmod(0o755)


class TestPermissions:
    @pytest.mark.parametrize("umask", [0o000, 0o022])
    def test_a_new_cache_is_for_this_user_alone(self, environ: dict[str, str], umask: int) -> None:
        before = os.umask(umask)
        try:
            cache.confine(environ)
            kafka = publish(cache.cache_root(environ))
        finally:
            os.umask(before)
        assert mode(kafka.parent) == mode(kafka) == 0o700

    def test_an_existing_one_is_made_so(self, environ: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        for folder in (kafka.parent, kafka):
            folder.chmod(0o755)
        provide_kafka(environ)
        assert mode(kafka) == 0o700
        # A folder that the user named may hold other things.
        assert mode(kafka.parent) == 0o755

    def test_the_usual_place_is_kpipes_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        root = cache.cache_root({})
        root.mkdir(parents=True, mode=0o755)
        cache.confine({})
        assert mode(root) == 0o700

    def test_a_folder_that_others_can_write_in_is_closed(self, environ: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        kafka.parent.chmod(0o777)
        provide_kafka(environ)
        assert mode(kafka.parent) == 0o755

    def test_a_folder_like_tmp_stays_as_it_is(self, environ: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        kafka.parent.chmod(0o1777)
        provide_kafka(environ)
        assert mode(kafka.parent) == 0o1777 and mode(kafka) == 0o700

    def test_jars_that_others_could_change_are_compared_again(self, environ: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        kafka.chmod(0o777)
        assert provide_kafka(environ).jars == JARS
        kafka.chmod(0o777)
        (kafka / "libs" / "a.jar").write_text("A.jar")  # of the same size
        with pytest.raises(BrokerError, match="could not be downloaded"):
            provide_kafka(environ)
        assert find_kafka(environ) is None

    @pytest.mark.parametrize("which", ["cache", "cache/" + pins.NAME])
    def test_somebody_elses_is_refused(
        self, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
    ) -> None:
        publish(cache.cache_root(environ))
        if os.geteuid() == 0:
            os.chown(tmp_path / which, 65534, 65534)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 65534)
        for look in (find_kafka, provide_kafka):
            with pytest.raises(BrokerError, match="belongs to another user") as caught:
                look(environ)
            assert "KPIPE_CACHE" in caught.value.hint

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_a_link_of_somebody_else_is_refused(self, environ: dict[str, str], tmp_path: Path) -> None:
        publish(tmp_path / "own")
        (tmp_path / "cache").symlink_to(tmp_path / "own")
        assert find_kafka(environ)
        os.lchown(tmp_path / "cache", 65534, 65534)
        with pytest.raises(BrokerError, match="belongs to another user"):
            find_kafka(environ)


class TestOlderCache:
    def test_it_is_taken_over_without_fetching(self, environ: dict[str, str], pinned: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        by_an_older_kpipe(kafka)
        assert find_kafka(environ) is None
        assert provide_kafka(environ).jars == JARS
        manifest = json.loads((kafka / "kpipe.json").read_text())
        assert manifest["sha256"] == pinned
        # An older kpipe goes on with it.
        assert manifest["jars"] == {"a.jar": 5, "b.jar": 5}
        assert mode(kafka) == 0o700

    def test_jars_that_are_not_the_pinned_ones_are_fetched_again(self, environ: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        (kafka / "libs" / "b.jar").write_text("B.jar")
        by_an_older_kpipe(kafka)
        with pytest.raises(BrokerError, match="could not be downloaded"):
            provide_kafka(environ)

    def test_other_pins_count_at_once(self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        publish(cache.cache_root(environ))
        assert find_kafka(environ)
        monkeypatch.setattr(pins, "jars", lambda: {"a.jar": "0" * 64, "b.jar": "1" * 64})
        assert find_kafka(environ) is None


class TestClassPath:
    def test_it_has_the_jars_that_were_checked(self, environ: dict[str, str]) -> None:
        kafka = publish(cache.cache_root(environ))
        (kafka / "libs" / "planted.jar").touch()
        found = find_kafka(environ)
        assert found is not None
        assert class_path(found) == f"{kafka}/libs/a.jar:{kafka}/libs/b.jar"

    def test_a_release_has_more_jars_than_maven(self, environ: dict[str, str], tmp_path: Path) -> None:
        with cache.aside(tmp_path / "cache") as made:
            (made / "libs").mkdir()
            for name in (*JARS, "connect.jar"):
                (made / "libs" / name).write_text(name)
            cache.publish(made, tmp_path / "cache", "release")
        found = find_kafka(environ)
        assert found is not None and found.jars == (*JARS, "connect.jar")

    def test_ones_own_kafka_is_taken_whole(self, tmp_path: Path) -> None:
        """It may have jars of the user: plug-ins."""
        (tmp_path / "libs").mkdir()
        (tmp_path / "libs" / "kafka_2.13-4.1.0.jar").touch()
        found = find_kafka({"KAFKA_HOME": str(tmp_path)})
        assert found is not None and class_path(found) == f"{tmp_path}/libs/*"
