"""The per-user cache of fetched Kafkas. Whatever is under its final name is whole.

A Kafka is put together in a folder aside, on the same file system, and gets its name by one rename after its
files are on disk. A run that was killed leaves such a folder behind; the next one to fetch removes it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.brokers import pins

_ASIDE = ".fetch-"
_MANIFEST = "kpipe.json"


def cache_root(environ: Mapping[str, str]) -> Path:
    """`KPIPE_CACHE`, else the system's place for caches with a folder `kpipe` in it."""
    if environ.get("KPIPE_CACHE"):
        return Path(environ["KPIPE_CACHE"]).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kpipe"
    xdg = environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    return (Path(xdg) if xdg.startswith("/") else Path.home() / ".cache") / "kpipe"


def folder(root: Path) -> Path:
    """Where the pinned Kafka belongs, there or not."""
    return root / pins.NAME


def lock_file(root: Path) -> Path:
    return root / f"{pins.NAME}.lock"


def intact(kafka: Path) -> bool:
    """Whether every jar that was fetched is still there in its size: people and cleaners delete caches."""
    try:
        manifest: Any = json.loads((kafka / _MANIFEST).read_text("utf-8"))
        jars: dict[str, int] = manifest["jars"]
        return bool(jars) and all((kafka / "libs" / name).stat().st_size == size for name, size in jars.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def aside(root: Path) -> Iterator[Path]:
    """An empty folder on the cache's file system, gone again afterwards unless it was published."""
    folder = root / f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clean(root: Path) -> None:
    """Remove what killed runs left. Only for the holder of the lock: nobody else fetches then."""
    for leftover in root.glob(f"{_ASIDE}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def publish(made: Path, root: Path, source: str) -> None:
    """Give `made` (a folder with `libs/`) its final name, with everything on disk before that."""
    jars = sorted((made / "libs").glob("*.jar"))
    manifest = {"version": pins.VERSION, "source": source, "jars": {j.name: j.stat().st_size for j in jars}}
    (made / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    for path in (*jars, made / _MANIFEST, made / "libs", made):
        _to_disk(path)
    target = folder(root)
    if target.exists():
        # Damaged, or it would not have been fetched again. Moved, so that its name is free in one step.
        target.rename(root / f"{_ASIDE}old-{secrets.token_hex(4)}")
    made.rename(target)
    _to_disk(root)
    clean(root)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def empty(made: Path) -> None:
    """Start over in the folder aside, after a way of fetching that failed."""
    shutil.rmtree(made)
    made.mkdir()
