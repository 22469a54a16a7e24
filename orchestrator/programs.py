"""Where the programs are that kpipe starts by itself: `git`, `mvn`, `java`, `docker`.

Only absolute folders of the PATH count. An empty or relative one (`.`) means the working folder, which is often
somebody else's checkout. The table of all programs, with their environments and folders: docs/security.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def find_program(name: str, environ: Mapping[str, str]) -> Path | None:
    """The program that `name` means, None where there is none."""
    place = shutil.which(name, path=search_path(environ))
    return Path(place) if place else None


def search_path(environ: Mapping[str, str]) -> str:
    """The PATH of `environ` without its relative folders: for programs that start programs."""
    return os.pathsep.join(place for place in environ.get("PATH", "").split(os.pathsep) if Path(place).is_absolute())
