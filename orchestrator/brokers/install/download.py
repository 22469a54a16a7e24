"""Kafka by its official release: one archive, checked against its pinned SHA-512 before anything is unpacked."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from orchestrator.brokers.install import pins
from orchestrator.brokers.model import Notify, Progress
from orchestrator.errors import BrokerError

_BLOCK = 1 << 18
_NO_ANSWER_SECONDS = 30.0


def fetch_release(bases: Sequence[str], sha512: str, made: Path, notify: Notify) -> None:
    """Download the archive from the first of `bases` that has it and put its jars under `made/libs`.

    Raises `BrokerError` (nowhere to be had, cut short, another checksum) and `OSError` (the disk).
    """
    archive = made / pins.ARCHIVE
    digest = _download_from_any(bases, archive, notify)
    if digest != sha512.lower():
        raise BrokerError(
            f"{pins.ARCHIVE} has the wrong checksum: SHA-512 {digest[:16]}… instead of {sha512[:16].lower()}…; "
            "it was thrown away"
        )
    notify(Progress(f"Unpacking Kafka {pins.VERSION}"))
    _unpack(archive, made / "libs")
    archive.unlink()


def _download_from_any(bases: Sequence[str], archive: Path, notify: Notify) -> str:
    problems = []
    for base in bases:
        url = f"{base.rstrip('/')}/{pins.VERSION}/{pins.ARCHIVE}"
        try:
            return _download(url, archive, notify)
        except (urllib.error.URLError, http.client.HTTPException, ValueError, TimeoutError) as problem:
            problems.append(f"{url}: {_said(problem)}")
        except ConnectionError as problem:
            problems.append(f"{url}: the connection broke ({problem})")
    raise BrokerError(f"Kafka {pins.VERSION} could not be downloaded: " + "; ".join(problems))


def _download(url: str, archive: Path, notify: Notify) -> str:
    """Write the body to `archive` and return its SHA-512 in hex."""
    digest = hashlib.sha512()
    with urllib.request.urlopen(url, timeout=_NO_ANSWER_SECONDS) as answer, archive.open("wb") as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while block := answer.read(_BLOCK):
            file.write(block)
            digest.update(block)
            done += len(block)
            notify(Progress(f"Fetching Kafka {pins.VERSION}", done, total))
    # Python's client reports a connection that ends early only for reads without a size.
    if total is not None and done != total:
        raise http.client.IncompleteRead(b"", total - done)
    return digest.hexdigest()


def _said(problem: Exception) -> str:
    if isinstance(problem, urllib.error.HTTPError):
        return f"HTTP {problem.code} {problem.reason}"
    if isinstance(problem, urllib.error.URLError):
        return str(problem.reason)
    if isinstance(problem, http.client.IncompleteRead):
        return f"the download ended {problem.expected} bytes early"
    return str(problem) or type(problem).__name__


def _unpack(archive: Path, libs: Path) -> None:
    """The jars alone, by their bare names: nothing in an archive can choose where it is written."""
    libs.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isreg() and path.parts[1:-1] == ("libs",) and path.suffix == ".jar":
                    _copy(tar, member, libs / path.name)
    except (tarfile.TarError, EOFError) as problem:
        raise BrokerError(f"{archive.name} cannot be unpacked: {problem}") from problem


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    if source is not None:
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
