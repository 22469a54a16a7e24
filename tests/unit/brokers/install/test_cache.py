from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.brokers.install import cache, pins
from orchestrator.brokers.install.distribution import find_kafka
from orchestrator.errors import BrokerError

JARS = ("a.jar", "b.jar")


def fill(made: Path) -> None:
    (made / "libs").mkdir()
    (made / "libs" / "a.jar").write_bytes(b"12345")
    (made / "libs" / "b.jar").write_bytes(b"")


def published(root: Path) -> Path:
    with cache.aside(root) as made:
        fill(made)
        cache.publish(made, root, "test")
    return cache.folder(root)


def test_published_is_intact_and_alone(tmp_path: Path) -> None:
    kafka = published(tmp_path)
    assert cache.jars(kafka) == JARS
    assert [path.name for path in tmp_path.iterdir()] == [pins.NAME]


@pytest.mark.parametrize("harm", ["missing", "cut", "manifest", "libs"])
def test_damage_is_seen_and_repaired(tmp_path: Path, harm: str) -> None:
    kafka = published(tmp_path)
    if harm == "missing":
        (kafka / "libs" / "b.jar").unlink()
    elif harm == "cut":
        (kafka / "libs" / "a.jar").write_bytes(b"123")
    elif harm == "manifest":
        (kafka / "kpipe.json").write_text("{")
    else:
        (kafka / "libs").rename(kafka / "lobs")
    assert cache.jars(kafka) == ()
    assert find_kafka({"KPIPE_CACHE": str(tmp_path)}) is None
    assert cache.jars(published(tmp_path)) == JARS
    assert [path.name for path in tmp_path.iterdir()] == [pins.NAME]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), cache.aside(tmp_path) as made:
        fill(made)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_runs_are_cleaned_and_nothing_else(tmp_path: Path) -> None:
    kafka = published(tmp_path)
    (tmp_path / ".fetch-1-dead" / "libs").mkdir(parents=True)
    (tmp_path / ".fetch-1-dead" / "libs" / "a.jar").write_bytes(b"1")
    (tmp_path / "other").mkdir()
    cache.clean(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {pins.NAME, "other"}
    assert cache.jars(kafka) == JARS


@pytest.mark.skipif(os.uname().sysname == "Darwin", reason="macOS keeps caches under ~/Library")
def test_the_cache_is_where_the_desktop_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert cache.cache_root({}) == Path("/home/u/.cache/kpipe")
    assert cache.cache_root({"XDG_CACHE_HOME": "/x"}) == Path("/x/kpipe")
    assert cache.cache_root({"XDG_CACHE_HOME": "relative"}) == Path("/home/u/.cache/kpipe")
    assert cache.cache_root({"XDG_CACHE_HOME": "/x", "KPIPE_CACHE": "~/own"}) == Path("/home/u/own")


def release(folder: Path, version: str) -> dict[str, str]:
    (folder / "libs").mkdir(parents=True)
    for name in ("kafka_2.13", "kafka-clients"):
        (folder / "libs" / f"{name}-{version}.jar").touch()
    return {"KAFKA_HOME": str(folder)}


def test_kafka_home_comes_first(tmp_path: Path) -> None:
    published(tmp_path / "cache")
    found = find_kafka({**release(tmp_path / "own", "4.1.0"), "KPIPE_CACHE": str(tmp_path / "cache")})
    assert found is not None
    assert (found.version, found.source, found.libs) == ("4.1.0", "KAFKA_HOME", tmp_path / "own" / "libs")


def test_kafka_home_that_is_too_old(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"is Kafka 3\.9\.1; kpipe needs 4\.0 or later"):
        find_kafka(release(tmp_path, "3.9.1"))


def test_kafka_home_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="is no Kafka release"):
        find_kafka({"KAFKA_HOME": str(tmp_path)})
