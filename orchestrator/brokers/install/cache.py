"""The per-user cache of fetched Kafkas. Whatever is under its final name is whole.

A Kafka is put together in a folder aside, on the same file system, and gets its name by one rename after its
files are on disk. A run that was killed leaves such a folder behind; the next one to fetch removes it.

The checksums of the jars are compared with the pinned ones when they are fetched. From then on nobody but the owner can
change them (`brokers/install/private_folders.py`), so that a start looks for their names and sizes only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.brokers.install import pins, private_folders

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


def jars(kafka: Path) -> tuple[str, ...]:
    """The names of the jars that were checked when they were fetched; none unless each is still there in its size.

    People and cleaners delete caches. A record without checksums, by an older kpipe, counts as none.
    """
    try:
        manifest: Any = json.loads((kafka / _MANIFEST).read_text("utf-8"))
        sizes: dict[str, int] = manifest["jars"]
        checked: dict[str, str] = manifest["sha256"]
        if manifest["source"] == "maven" and checked != pins.jars():
            return ()
        there = all((kafka / "libs" / name).stat().st_size == size for name, size in sizes.items())
        return tuple(sorted(sizes)) if there and sizes.keys() == checked.keys() else ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def checksum(jar: Path) -> str:
    """Its SHA-256 in hex."""
    with jar.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def confine(environ: Mapping[str, str]) -> None:
    """Make the cache this user's alone. Raises `BrokerError` where it is somebody else's.

    A folder that KPIPE_CACHE names may hold other things: there only the writing of others is taken away.
    """
    root = cache_root(environ)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_folders.tighten(root, keep=0o755 if environ.get("KPIPE_CACHE") else 0o700)
    kafka = folder(root)
    if kafka.is_dir() and private_folders.tighten(kafka):
        # Others could write in it until now: what is on record proves nothing.
        (kafka / _MANIFEST).unlink(missing_ok=True)


def check_again(kafka: Path) -> None:
    """Put a Kafka without a valid record (an older kpipe's, say) on record if its jars are the pinned ones."""
    pinned = pins.jars()
    try:
        if {name: checksum(kafka / "libs" / name) for name in pinned} == pinned:
            record(kafka, "maven", pinned)
    except FileNotFoundError:
        pass


def record(kafka: Path, source: str, checksums: Mapping[str, str]) -> None:
    """Write down the jars in `kafka/libs`, in one step."""
    sizes = {name: (kafka / "libs" / name).stat().st_size for name in checksums}
    manifest = {"version": pins.VERSION, "source": source, "jars": sizes, "sha256": dict(checksums)}
    aside = kafka / f"{_MANIFEST}.{secrets.token_hex(4)}"
    aside.write_text(json.dumps(manifest, indent=1), "utf-8")
    aside.replace(kafka / _MANIFEST)


@contextmanager
def aside(root: Path) -> Iterator[Path]:
    """An empty folder on the cache's file system, gone again afterwards unless it was published."""
    folder = root / f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700, parents=True)
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
    fetched = sorted((made / "libs").glob("*.jar"))
    record(made, source, {jar.name: checksum(jar) for jar in fetched})
    for path in (*fetched, made / _MANIFEST, made / "libs", made):
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
    made.mkdir(mode=0o700)
