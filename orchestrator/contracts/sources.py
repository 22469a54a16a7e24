"""Where schemas are read from: the project's files as they are, or as they were at another time or place.

Every source is asked by the path that a file has in the project, so that two versions of a schema have the same
references. Sources that are not the file system itself: `operations/schemas/versions.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from orchestrator.config.reading import MAX_JSON, Reach


class SchemaSource(Protocol):
    """Files by their absolute paths in the project."""

    def read(self, path: Path) -> bytes:
        """The bytes of one file. Raises OSError: FileNotFoundError where there is none."""
        ...

    def schemas(self, folder: Path) -> Iterable[Path]:
        """The `.json` files of one folder, by name."""
        ...


class Files:
    """The file system, as far as a project's files may name what is in it."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        #: Whether all that was read is the project's own, and may be quoted.
        self.quotable = True

    def read(self, path: Path) -> bytes:
        raw = self._reach.read(path, MAX_JSON)
        self.quotable = self.quotable and self._reach.is_own(path)
        return raw

    def schemas(self, folder: Path) -> Iterable[Path]:
        return [folder / name for name in self._reach.names(folder, ".json")]


def files_of(base: Path) -> Files:
    """Those of the project whose pipeline file is in the folder `base`."""
    return Files(Reach.of(base, os.environ))
