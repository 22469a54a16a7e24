"""Earlier versions of a project's files: a revision of its git repository, or a folder with a copy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from orchestrator.config.reading import MAX_JSON, Reach
from orchestrator.errors import UsageError
from orchestrator.operations.schemas.git import Git, Unreadable

DEFAULT = "HEAD"
#: No schema is larger (bytes); what a repository packs into one file has no other limit.
LARGEST = 16 * 1024 * 1024


class Version(Protocol):
    """A `contracts.sources.SchemaSource` that can say which version it is."""

    name: str

    def read(self, path: Path) -> bytes: ...

    def schemas(self, folder: Path) -> Iterable[Path]: ...


def version_of(word: str, base: Path) -> Version:
    """The version that `word` names for the project in `base`: a folder that exists, else a git revision.

    Raises UsageError where it is neither.
    """
    return FolderVersion(base, Path(word)) if Path(word).is_dir() else Revision(base, word)


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
        self._git = Git(base, os.environ)
        top = self._git.run("rev-parse", "--show-toplevel")
        if top is None:
            raise UsageError(
                f"{base} is in no git repository, so there is no revision {revision} to compare with",
                "name a folder with the earlier files: --against FOLDER",
            )
        self._top = Path(top.decode().rstrip("\n")).resolve()
        commit = self._git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if commit is None:
            raise UsageError(
                f"there is neither a folder nor a git revision {revision}",
                "give a commit, a branch or a tag, such as --against origin/main; a shallow clone has few of them",
            )
        self._commit = commit.decode().strip()

    def read(self, path: Path) -> bytes:
        """Raises FileNotFoundError, and Unreadable where git has the name but not the content."""
        where = f"{path} of {self.name}"
        inside = self._inside(path)
        partial = f"is this a partial clone? `git show {self.name}:{inside}` fetches it; kpipe fetches nothing"
        listed = self._git.run("ls-tree", "-z", "--long", "--full-tree", self._commit, "--", inside)
        if listed is None:
            raise Unreadable(f"{where} cannot be read from the git repository", partial)
        kind, oid, size = _entry(listed)
        if kind != "blob":
            raise FileNotFoundError(f"{path} is not in {self.name}")
        if size.isdigit() and int(size) > LARGEST:
            raise Unreadable(f"{where} is larger than {LARGEST // 1024 // 1024} MB", "that is no schema")
        content = self._git.run("cat-file", "blob", oid)
        if content is None:
            raise Unreadable(f"{where} is not in the git repository, though its name is", partial)
        return content

    def schemas(self, folder: Path) -> Iterable[Path]:
        listed = self._git.run("ls-tree", "--name-only", "-z", f"{self._commit}:{self._inside(folder)}") or b""
        names = [name for name in listed.decode("utf-8", "surrogateescape").split("\0") if name.endswith(".json")]
        return [folder / name for name in sorted(names)]

    def _inside(self, path: Path) -> str:
        try:
            inside = path.resolve().relative_to(self._top)
        except ValueError:
            raise FileNotFoundError(f"{path} is not in the repository {self._top}") from None
        return "" if inside == Path() else inside.as_posix()


def _entry(listed: bytes) -> tuple[str, str, str]:
    """Type, object id and size of the one line that `git ls-tree -z --long` writes for a file; "" for none."""
    _, kind, oid, size = (listed.partition(b"\t")[0].decode("ascii").split() + [""] * 4)[:4]
    return kind, oid, size


class FolderVersion:
    """A copy of the project, or just of its schemas: files by their place in the project, else by their name."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.name = str(folder)
        self._base = base
        self._folder = folder
        self._reach = Reach.of(folder, os.environ)

    def read(self, path: Path) -> bytes:
        for copy in self._copies(path):
            if copy.is_file():
                return self._reach.read(copy, MAX_JSON)
        raise FileNotFoundError(f"{path} is not in {self.name}")

    def schemas(self, folder: Path) -> Iterable[Path]:
        copies = [copy for copy in self._copies(folder) if copy.is_dir()] or [self._folder]
        return [folder / name for name in self._reach.names(copies[0], ".json")]

    def _copies(self, path: Path) -> list[Path]:
        inside = [self._folder / path.relative_to(self._base)] if path.is_relative_to(self._base) else []
        return [*inside, self._folder / path.name]
