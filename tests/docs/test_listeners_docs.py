"""security.md's section about listeners says what the code does."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from handlers import limits as example
from handlers.web import MAX_BODY
from orchestrator.publish.gateway import LIMITS, MOST_BODY
from orchestrator.serving.hosts import LOOPBACK, VARIABLE
from orchestrator.serving.limits import ListenerLimits, connections
from orchestrator.supervisor.control import server

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
SECTION = " ".join(PAGE.split("\n## Listeners\n")[1].split("\n## ")[0].split())


def test_its_numbers_are_those_of_the_code() -> None:
    limits = ListenerLimits()
    for sentence in (
        f"A head has {limits.head_seconds:g} seconds, however its bytes arrive, a body {limits.body_seconds:g}",
        f"a client {limits.answer_seconds:g} to take the answer ({example.ANSWER_SECONDS:g} in the example)",
        f"A head has {limits.head_bytes // 1024} KB at most, at the publish endpoint {LIMITS.head_bytes // 1024} KB",
        f"and {limits.headers} headers",
        f"A body at the publish endpoint has at most {MOST_BODY:,} bytes",
        f"in the example {MAX_BODY:,} bytes",
    ):
        assert sentence in SECTION
    assert (limits.head_seconds, limits.body_seconds) == (example.HEAD_SECONDS, example.BODY_SECONDS)
    assert (LIMITS.head_seconds, LIMITS.body_seconds, LIMITS.idle_seconds) == (10, 60, 60)
    assert limits.head_bytes == example.HEAD_BYTES and limits.idle_seconds == 0


def test_its_table_has_the_numbers_of_connections() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and row.endswith(("| 64 |", "| 256 |"))]
    assert [int(row.split("|")[-2]) for row in rows] == [
        server._CONNECTIONS, server._CONNECTIONS, LIMITS.connections, example.CONNECTIONS,
    ]  # fmt: skip


def test_the_names_that_are_answered() -> None:
    assert {name.strip("[]") for name in re.findall(r"`(localhost|127\.0\.0\.1|\[::1\])`", SECTION)} == LOOPBACK
    assert f"`{VARIABLE}`" in SECTION and "`ALLOWED_HOSTS`" in SECTION


def test_an_eighth_of_the_files() -> None:
    assert "takes an eighth of `ulimit -n`" in SECTION and "2,048 files" in SECTION
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
        assert connections(256) == min(soft, 1024) // 8
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
