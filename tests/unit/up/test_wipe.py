"""`down -v` while somebody else exchanges the folder."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator.errors import KpipeError
from orchestrator.state import claimed
from orchestrator.up.wipe import wipe
from tests.support.planted import plant, seen


def test_only_the_folder_that_was_locked_is_emptied(tmp_path: Path) -> None:
    """The other one is a state folder of the same user's, with a marker: what is deleted must not go by the path."""
    other, state, away = tmp_path / "other" / ".kpipe", tmp_path / "project" / ".kpipe", tmp_path / "away"
    claimed(other).close()
    for file in ("logs/precious.log", "broker/data/precious", "broker.json"):
        plant(other / file, "precious", tmp_path)
    claimed(state).close()
    (tmp_path / "link").symlink_to(other)
    before, over = seen(other), threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                state.rename(away)
                (tmp_path / "link").rename(state)
                state.rename(tmp_path / "link")
                away.rename(state)

    pipeline: Any = SimpleNamespace(state_dir=state, kafka=SimpleNamespace(bootstrap="a.cluster:9092"))
    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for _ in range(300):
            with contextlib.suppress(KpipeError):
                wipe(pipeline, {}, lambda _: False)
    finally:
        over.set()
        attacker.join()
    assert seen(other) == before
