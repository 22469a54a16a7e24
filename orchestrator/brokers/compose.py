"""`docker compose` as a program: its words, and its failures in ours."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.errors import BrokerError
from orchestrator.programs import find_program, search_path

SERVICE = "kafka"
_QUICK_SECONDS = 30.0

_INSTEAD = "or leave out `--kafka docker`: kpipe then runs Kafka itself, without Docker"
#: What Docker says on stderr -> what that means, and what to do. The first that matches.
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"unknown command: docker compose|'compose' is not a docker command|unknown shorthand flag",
        "this Docker has no `docker compose`",
        f"install its compose plugin (version 2), {_INSTEAD}",
    ),
    (
        r"Cannot connect to the Docker daemon|error during connect|daemon is not running|failed to connect to the",
        "no Docker engine answers",
        f"start Docker, {_INSTEAD}",
    ),
    (
        r"permission denied.*docker|docker.*permission denied",
        "Docker's socket may not be used by this user",
        f"join the group `docker` or use rootless Docker, {_INSTEAD}",
    ),
    (
        r"port is already allocated|address already in use",
        "its port is in use",
        "run the command again: it takes another port",
    ),
    (
        r"manifest .*not found|pull access denied|failed to resolve reference|TLS handshake|no such host|i/o timeout",
        "the image could not be pulled",
        f"check the network and its proxy, {_INSTEAD}",
    ),
    (
        r"is unhealthy|exited \(\d+\)|exited with code",
        "Kafka did not become healthy in its container",
        "`docker compose logs kafka` in the project's folder says why",
    ),
)


class Compose:
    """`docker compose` on one file, for one project name, with one environment."""

    def __init__(self, file: Path, project: str, environ: Mapping[str, str]) -> None:
        self._words = ("compose", "--project-name", project, "--file", str(file))
        self._environ = environ

    def run(self, *words: str, timeout: float = _QUICK_SECONDS) -> str:
        """Its stdout. Raises `BrokerError` in the user's terms when it fails."""
        return _docker((*self._words, *words), self._environ, timeout)

    def has_service(self) -> bool:
        """Whether the file declares the service `kafka`."""
        return SERVICE in self.run("config", "--services").split()

    def running(self) -> bool:
        return SERVICE in self.run("ps", "--services", "--status", "running").split()

    def images(self) -> list[str]:
        """The names of the images that the file needs."""
        return self.run("config", "--images").split()

    def has_images(self) -> bool:
        """Whether the engine has them all, without asking a registry."""
        names = self.images()
        try:
            _docker(("image", "inspect", "--format", "{{.Id}}", *names), self._environ, _QUICK_SECONDS)
        except BrokerError:
            return False
        return True


def check_engine(environ: Mapping[str, str]) -> None:
    """Raise `BrokerError` unless there is a docker with compose, and an engine behind it."""
    _docker(("version", "--format", "{{.Server.Version}}"), environ, _QUICK_SECONDS)
    _docker(("compose", "version", "--short"), environ, _QUICK_SECONDS)


def has_objects(project: str, environ: Mapping[str, str]) -> bool:
    """Whether the engine has a container or a volume that was made for this compose project."""
    label = f"label=com.docker.compose.project={project}"
    lists = (("ps", "--all", "--quiet"), ("volume", "ls", "--quiet"))
    return any(_docker((*words, "--filter", label), environ, _QUICK_SECONDS).strip() for words in lists)


def _docker(words: Sequence[str], environ: Mapping[str, str], timeout: float) -> str:
    docker = find_program("docker", environ)
    if docker is None:
        raise BrokerError("there is no `docker` on the PATH", f"install Docker, {_INSTEAD}")
    try:
        done = subprocess.run(
            # Compose files may refer to any variable of the user.
            (docker, *words), env={**environ, "PATH": search_path(environ)}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as problem:
        raise BrokerError(
            f"`docker {_shown(words)}` did not end within {timeout:g} s",
            "`docker version` shows whether Docker answers",
        ) from problem
    if done.returncode != 0:
        raise _failure(words, done.stderr or done.stdout)
    return done.stdout


def _failure(words: Sequence[str], said: str) -> BrokerError:
    for pattern, reason, hint in _REASONS:
        if re.search(pattern, said, re.IGNORECASE):
            return BrokerError(f"Kafka in Docker: {reason}", hint)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return BrokerError(
        f"`docker {_shown(words)}` failed: {lines[-1] if lines else 'it said nothing'}",
        "`docker version` shows how Docker is",
    )


def _shown(words: Sequence[str]) -> str:
    """The words that a person would type, without project and file."""
    return " ".join(words if words[0] != "compose" or len(words) < 5 else ("compose", *words[5:]))
