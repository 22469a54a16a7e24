"""Reading the files that a project's files name: schemas, examples, `$ref`, `${file:…}`, sources of handlers.

Whoever wrote the project chose these paths, so each is checked before it is opened:
- It lies in the project, also once its symbolic links are followed: under the top of the git work tree that has the
  pipeline file, else under the pipeline file's folder. `KPIPE_ALLOW_FILES` names further folders.
- It is a regular file. A FIFO, a device or a terminal could block, never end, or do something when it is opened.
- It is no larger than what is read from it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Folders besides the project's own, separated as in PATH.
VARIABLE = "KPIPE_ALLOW_FILES"
#: What a finding says instead of quoting a file that is not the project's own.
NOT_SHOWN = "the file is not the project's own, so nothing of it is shown"
#: The most bytes of a schema or an example.
MAX_JSON = 5_000_000
#: The most bytes of a program's source that is read to see what it imports.
MAX_SOURCE = 5_000_000


class ReadRefused(OSError):
    """The path may not be read; `strerror` says why, `hint` what to do about it."""

    def __init__(self, number: int, reason: str, path: Path, hint: str = "") -> None:
        super().__init__(number, reason, str(path))
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Reach:
    """The folders, as real paths, whose files a project's files may name. `top` is the project's own."""

    top: Path
    allowed: tuple[Path, ...] = ()

    @classmethod
    def of(cls, base: Path, environ: Mapping[str, str]) -> Reach:
        """That of a pipeline file in the folder `base`."""
        named = filter(None, environ.get(VARIABLE, "").split(os.pathsep))
        return cls(_top(base), tuple(Path(os.path.realpath(Path(name).expanduser())) for name in named))

    def read(self, path: Path, most: int) -> bytes:
        """The bytes of a regular file within reach. Raises OSError: `ReadRefused`, or why it cannot be read.

        The links of a path are followed once. The last part of the result may not be a link by then.
        """
        real = self._real(path)
        _must_be_regular(os.lstat(real), path)
        # Of a file that was exchanged for another meanwhile, nothing can block or become the controlling terminal.
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as stream:  # noqa: PTH123 - a descriptor has no path
            _must_be_regular(os.fstat(fd), path)
            raw = stream.read(most + 1)
        if len(raw) > most:
            raise ReadRefused(errno.EFBIG, f"it is larger than {most // 1_000_000} MB", path)
        return raw

    def names(self, folder: Path, suffix: str) -> list[str]:
        """The names in a folder that end in `suffix`, sorted; none of a folder that is out of reach."""
        try:
            return sorted(path.name for path in self._real(folder).iterdir() if path.name.endswith(suffix))
        except OSError:
            return []

    def is_own(self, path: Path) -> bool:
        """Whether the file is the project's own. What others say may not be quoted, even where it may be read."""
        return Path(os.path.realpath(path)).is_relative_to(self.top)

    def _real(self, path: Path) -> Path:
        # Not strict: whether there is a file outside of the project is nobody's business.
        try:
            real = Path(os.path.realpath(path))
        except ValueError:
            raise ReadRefused(errno.EINVAL, "it is no path", path) from None
        if not any(real.is_relative_to(folder) for folder in (self.top, *self.allowed)):
            hint = f"paths lead to files in {self.top}; {VARIABLE}=FOLDER allows another folder"
            raise ReadRefused(errno.EACCES, "it is outside of the project", path, hint)
        return real


def _must_be_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise ReadRefused(errno.EINVAL, "it is no regular file", path)


def _top(base: Path) -> Path:
    """The top of the git work tree around `base`, else `base`; git is not asked.

    A `.git` counts when it belongs to this user or to the owner of `base`: anybody may make one in `/tmp`.
    """
    real = Path(os.path.realpath(base))
    owners = {os.getuid()}
    try:
        owners.add(real.stat().st_uid)
    except OSError:
        return real
    for folder in (real, *real.parents):
        try:
            if (folder / ".git").lstat().st_uid in owners:
                return folder
        except OSError:
            continue
    return real
