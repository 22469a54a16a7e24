"""The facts about orders in SQLite: written by `tracking`, read by `tracking-api` at the same time."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from handlers.readmodel import Fact
from orchestrator.contracts import decode_json, encode_json

NAME = "tracking.db"
#: No further order is read once those before it have so many characters.
_MOST_READ = 8_000_000
_BUSY = 5.0
#: id, order id, type, at, body
Row = tuple[str, str, str, str, str]
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (
    id TEXT NOT NULL, type TEXT NOT NULL, order_id TEXT NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (id, type)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS facts_by_order ON facts (order_id, at);
"""


def path_from_environment() -> Path:
    """`TRACKING_DB`, by default where kpipe keeps its state: .kpipe/ in the pipeline's folder (where handlers run)."""
    return Path(os.environ.get("TRACKING_DB") or Path(os.environ.get("KPIPE_STATE_DIR") or ".kpipe") / NAME)


class Store:
    """Facts in one file. Several processes and threads may use it at once; a fact is added once however often it comes.

    What `add` returned from survives the death of the process; the last moments before a power failure may
    be lost (`synchronous=NORMAL`). Raises sqlite3.OperationalError when the disk does not do its part.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        self._write_ahead()
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)

    def add(self, fact: Fact) -> bool:
        """Whether the fact was new."""
        row = (fact.id, fact.type, fact.order_id, fact.at, encode_json(fact.body).decode())
        with self._lock:
            done = self._db.execute(
                "INSERT OR IGNORE INTO facts (id, type, order_id, at, body) VALUES (?,?,?,?,?)", row
            )
            return done.rowcount == 1

    def facts(self, order_id: str) -> list[Fact]:
        """Everything known about one order; empty when nothing is."""
        with self._lock:
            rows = self._db.execute("SELECT id, order_id, type, at, body FROM facts WHERE order_id = ?", (order_id,))
            return _facts(rows.fetchall())

    def latest(self, limit: int) -> dict[str, list[Fact]]:
        """The `limit` orders that changed last, newest first, with all their facts; fewer when they are very large."""
        newest = (
            "SELECT order_id, max(at) AS changed FROM facts GROUP BY order_id ORDER BY changed DESC, order_id LIMIT ?"
        )
        query = (
            f"SELECT f.id, f.order_id, f.type, f.at, f.body FROM facts f JOIN ({newest}) n USING (order_id) "
            "ORDER BY n.changed DESC, f.order_id"
        )
        with self._lock:
            rows = _bounded(self._db.execute(query, (limit,)))
        return {order_id: list(facts) for order_id, facts in groupby(_facts(rows), key=lambda fact: fact.order_id)}

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _write_ahead(self) -> None:
        # Readers and the writer do not wait for each other in this mode. Switching to it needs the file
        # alone, and SQLite does not always wait for that by itself when two processes open a new file at
        # once.
        deadline = time.monotonic() + _BUSY
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


def _bounded(rows: Iterable[Row]) -> list[Row]:
    """Whole orders until `_MOST_READ` is reached, at least one."""
    kept: list[Row] = []
    size = 0
    for row in rows:
        if size > _MOST_READ and row[1] != kept[-1][1]:
            break
        kept.append(row)
        size += len(row[4])
    return kept


def _facts(rows: Iterable[Row]) -> list[Fact]:
    return [Fact(id, order_id, type, at, decode_json(body.encode())) for id, order_id, type, at, body in rows]
