"""Where schemas are read from: the project's files as they are, or as they were at another time or place.

Every source is asked by the path that a file has in the project, so that two versions of a schema have the same
references. Sources that are not the file system itself: `cli/versions.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """Files by their absolute paths in the project."""

    def read(self, path: Path) -> bytes:
        """The bytes of one file. Raises OSError: FileNotFoundError where there is none."""
        ...

    def schemas(self, folder: Path) -> Iterable[Path]:
        """The `.json` files of one folder, by name."""
        ...


class Files:
    """The file system."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def schemas(self, folder: Path) -> Iterable[Path]:
        return sorted(folder.glob("*.json"))


FILES = Files()
