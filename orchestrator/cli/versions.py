"""Earlier versions of a project's files: a revision of its git repository, or a folder with a copy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from orchestrator.errors import UsageError

DEFAULT = "HEAD"


class Version(Protocol):
    """A `contracts.sources.Source` that can say which version it is."""

    name: str

    def read(self, path: Path) -> bytes: ...

    def schemas(self, folder: Path) -> Iterable[Path]: ...


def version_of(word: str, base: Path) -> Version:
    """The version that `word` names for the project in `base`: a folder that exists, else a git revision.

    Raises UsageError where it is neither.
    """
    return Folder(base, Path(word)) if Path(word).is_dir() else Revision(base, word)


def default_version(base: Path) -> Version | None:
    """What was committed last, None where there is no repository or nothing in it."""
    try:
        return Revision(base, DEFAULT)
    except UsageError:
        return None


class Revision:
    """The files as one commit has them."""

    def __init__(self, base: Path, revision: str) -> None:
        self.name = revision
        self._base = base
        top = self._git("rev-parse", "--show-toplevel")
        if top is None:
            raise UsageError(
                f"{base} is in no git repository, so there is no revision {revision} to compare with",
                "name a folder with the earlier files: --against FOLDER",
            )
        self._top = Path(top.decode().rstrip("\n")).resolve()
        commit = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if commit is None:
            raise UsageError(
                f"there is neither a folder nor a git revision {revision}",
                "give a commit, a branch or a tag, such as --against origin/main; a shallow clone has few of them",
            )
        self._commit = commit.decode().strip()

    def read(self, path: Path) -> bytes:
        found = self._git("show", f"{self._commit}:{self._inside(path)}")
        if found is None:
            raise FileNotFoundError(f"{path} is not in {self.name}")
        return found

    def schemas(self, folder: Path) -> Iterable[Path]:
        listed = self._git("ls-tree", "--name-only", "-z", f"{self._commit}:{self._inside(folder)}") or b""
        names = [name for name in listed.decode("utf-8", "surrogateescape").split("\0") if name.endswith(".json")]
        return [folder / name for name in sorted(names)]

    def _inside(self, path: Path) -> str:
        try:
            inside = path.resolve().relative_to(self._top)
        except ValueError:
            raise FileNotFoundError(f"{path} is not in the repository {self._top}") from None
        return "" if inside == Path() else inside.as_posix()

    def _git(self, *words: str) -> bytes | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(self._base), *words], stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except FileNotFoundError:
            raise UsageError(
                "git is not installed, so no earlier version can be read",
                "name a folder with the earlier files: --against FOLDER",
            ) from None
        return done.stdout if done.returncode == 0 else None


class Folder:
    """A copy of the project, or just of its schemas: files by their place in the project, else by their name."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.name = str(folder)
        self._base = base
        self._folder = folder

    def read(self, path: Path) -> bytes:
        for copy in self._copies(path):
            if copy.is_file():
                return copy.read_bytes()
        raise FileNotFoundError(f"{path} is not in {self.name}")

    def schemas(self, folder: Path) -> Iterable[Path]:
        copies = [copy for copy in self._copies(folder) if copy.is_dir()] or [self._folder]
        return [folder / copy.name for copy in sorted(copies[0].glob("*.json"))]

    def _copies(self, path: Path) -> list[Path]:
        inside = [self._folder / path.relative_to(self._base)] if path.is_relative_to(self._base) else []
        return [*inside, self._folder / path.name]
