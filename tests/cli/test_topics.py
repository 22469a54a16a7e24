"""`kpipe topics` from outside: output, exit codes, and what it does on the cluster."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shop import Shop, kpipe, write


@pytest.fixture
def shop(tmp_path: Path, kafka: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka)
    yield made
    made.admin.delete(made.names())


@pytest.mark.kafka
def test_sync_creates_once_and_then_has_nothing_to_do(shop: Shop) -> None:
    done = shop.run("sync", "-y")
    assert done.returncode == 0, done.stderr
    assert f"+ {shop.topic} " in done.stdout
    assert "retention.ms 7d" in done.stdout
    assert "Plan: 2 to create, 0 to grow, 0 to change, 0 refused." in done.stdout
    assert shop.names() == [shop.topic, f"{shop.topic}.dlq"]
    again = shop.run("sync")
    assert (again.returncode, again.stdout) == (0, "Nothing to do: the topics are as declared.\n")


@pytest.mark.kafka
@pytest.mark.parametrize(("words", "code"), [(["sync", "--dry-run"], 0), (["sync"], 2), (["sync", "--check"], 3)])
def test_without_consent_the_plan_is_shown_and_nothing_created(shop: Shop, words: list[str], code: int) -> None:
    done = shop.run(*words)
    assert done.returncode == code
    assert "Plan: 2 to create" in done.stdout
    assert shop.names() == []


@pytest.mark.kafka
def test_without_a_terminal_the_hint_names_the_option(shop: Shop) -> None:
    assert "-y" in shop.run("sync").stderr


@pytest.mark.kafka
def test_check_finds_a_change_by_hand_and_shows_old_and_new(shop: Shop) -> None:
    shop.run("sync", "-y")
    assert shop.run("sync", "--check").returncode == 0
    shop.admin.alter({shop.topic: {"retention.ms": "86400000"}})
    done = shop.run("sync", "--check")
    assert done.returncode == 3
    assert "1d → 7d" in done.stdout
    assert "1 topic differs" in done.stderr
    as_json = shop.run("sync", "--check", "--json")
    assert as_json.returncode == 3
    plan = json.loads(as_json.stdout)
    assert plan["changes"] == [
        {
            "action": "config",
            "topic": shop.topic,
            "field": "retention.ms",
            "old": "86400000",
            "new": "604800000",
            "risk": "safe",
        }
    ]


@pytest.mark.kafka
def test_growth_without_keys_is_safe_and_with_keys_needs_a_word(shop: Shop) -> None:
    shop.run("sync", "-y")
    shop.declare("partitions: 5")
    assert shop.run("sync", "-y").returncode == 0
    shop.declare("partitions: 6, key: id")
    for words in (["sync", "-y"], ["sync", "-y", "--allow", "data-loss=orders"]):
        done = shop.run(*words)
        assert done.returncode == 2
        assert "5 → 6  [keys move to other partitions" in done.stdout
        assert f"--allow reorders={shop.topic}" in done.stderr
    assert shop.admin.describe([shop.topic]).topics[shop.topic].partitions == 5
    done = shop.run("sync", "-y", "--allow", "reorders=orders", "--allow", f"reorders={shop.topic}.dlq")
    assert done.returncode == 0, done.stderr
    assert shop.admin.describe([shop.topic]).topics[shop.topic].partitions == 6


@pytest.mark.kafka
def test_a_shrink_is_refused_and_nothing_else_is_done(shop: Shop) -> None:
    shop.run("sync", "-y")
    shop.declare("partitions: 1, retention: 1d")
    for words in (["sync", "-y"], ["sync", "--dry-run"]):
        done = shop.run(*words)
        assert done.returncode == 2
        assert "Kafka cannot remove partitions" in done.stdout
        assert "nothing was changed" in done.stderr
    overrides = shop.admin.describe([shop.topic]).topics[shop.topic].overrides
    assert overrides is not None
    assert overrides["retention.ms"] == "604800000"


@pytest.mark.kafka
@pytest.mark.parametrize(("answer", "created"), [("y\n", 2), ("\n", 0), ("no\n", 0)])
def test_on_a_terminal_it_asks(shop: Shop, answer: str, created: int) -> None:
    ours, theirs = pty.openpty()
    code = "import sys; from orchestrator.cli.main import main; sys.exit(main(['topics', 'sync']))"
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=shop.folder,
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            timeout=60,
        )
        seen = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Apply these changes? [y/N]" in seen
    assert done.returncode == (0 if created else 1)
    assert len(shop.names()) == created


@pytest.mark.kafka
def test_ls_tells_absent_from_drift_and_counts_records(shop: Shop) -> None:
    assert {row["state"] for row in shop.listed().values()} == {"absent"}
    shop.run("sync", "-y")
    rows = shop.listed()
    assert rows["orders"] == {
        "name": "orders",
        "kafka_name": shop.topic,
        "partitions": 3,
        "replication": 1,
        "cleanup": "delete",
        "retention_ms": 604800000,
        "records": 0,
        "state": "in sync",
    }
    shop.declare("retention: 1d")
    assert shop.listed()["orders"]["state"] == "drift"
    table = shop.run("ls")
    assert table.returncode == 0
    assert table.stdout.splitlines()[0].split() == [
        "TOPIC", "PARTITIONS", "REPLICATION", "RETENTION", "RECORDS", "STATE",
    ]  # fmt: skip
    assert "kpipe topics sync --dry-run" in table.stderr


@pytest.mark.parametrize("words", [["sync", "-y"], ["ls"]])
def test_a_broker_that_is_away_is_one_message_and_exit_code_4(tmp_path: Path, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    write(tmp_path, f"127.0.0.1:{port}")
    done = kpipe(tmp_path, "topics", *words)
    assert done.returncode == 4
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert f"127.0.0.1:{port}" in error
    assert "Connection refused" in error
    assert hint.startswith("hint:")


def test_without_any_broker_the_ways_to_get_one_are_named(tmp_path: Path) -> None:
    write(tmp_path, "")
    done = kpipe(tmp_path, "topics", "sync")
    assert done.returncode == 4
    assert "kpipe broker start" in done.stderr


def test_a_wrong_client_property_is_the_files_fault(tmp_path: Path) -> None:
    write(tmp_path, "127.0.0.1:1")
    path = tmp_path / "pipeline.yaml"
    path.write_text(path.read_text().replace('"}', '", client: {no.such.property: "1"}}', 1))
    done = kpipe(tmp_path, "topics", "ls")
    assert done.returncode == 2
    assert "no.such.property" in done.stderr
