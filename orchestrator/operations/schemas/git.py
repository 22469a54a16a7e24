"""git as a program, on a repository that may be somebody else's.

A repository's configuration can name programs, for many occasions: a file system monitor, hooks, a pager, drivers for
differences, a command to connect with. None of them runs here:
- only plumbing that shows objects as they are: no pager, no differences, no filters, no hooks, no index;
- what git would start all the same is switched off on its command line, which goes before all files;
- a bare repository among a project's files is not taken for the project's (`safe.bareRepository`);
- objects that a partial clone has left out are not fetched: the remote's address and protocol are configuration, too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from orchestrator.environment import small
from orchestrator.errors import EXIT_USAGE, KpipeError, UsageError
from orchestrator.programs import find_program, search_path

_OPTIONS = (
    "--no-pager", "--no-replace-objects", "--literal-pathspecs",
    "-c", "safe.bareRepository=explicit",
    "-c", "core.fsmonitor=false",
    "-c", f"core.hooksPath={os.devnull}",
    "-c", "core.alternateRefsCommand=false",
    "-c", "core.sshCommand=false",
    "-c", "credential.helper=",
    "-c", "protocol.allow=never",
)  # fmt: skip
_FORCED = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
#: Whose repositories are trusted is the user's own configuration, and under sudo it depends on who called.
_NAMES = (
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM", "SUDO_UID",
)  # fmt: skip
#: A configuration may include a pipe that nobody writes to.
_SECONDS = 60.0


class Git:
    """The repository around `folder`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Raises UsageError where git is not installed."""
        program = find_program("git", environ)
        if program is None:
            raise UsageError(
                "git is not installed, so no earlier version can be read",
                "name a folder with the earlier files: --against FOLDER",
            )
        self._words = (str(program), *_OPTIONS, "-C", str(folder.absolute()))
        self._folder = folder
        self._environ = small(environ, _NAMES) | {"PATH": search_path(environ)} | _FORCED

    def run(self, *words: str) -> bytes | None:
        """What it writes, None when it fails. Raises Unreadable when it does not end."""
        try:
            done = subprocess.run(
                (*self._words, *words), cwd="/", env=self._environ, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unreadable(
                f"`git {words[0]}` in {self._folder} did not end within {_SECONDS:g} s",
                "look into its .git/config: a file that it includes may never end",
            ) from None
        return done.stdout if done.returncode == 0 else None


class Unreadable(KpipeError):
    """The repository cannot be read: whether it has what is looked for is not known."""

    exit_code = EXIT_USAGE
