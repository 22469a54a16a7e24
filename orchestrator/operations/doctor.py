"""What `kpipe doctor` looks at: one function for each thing, none of which changes anything."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.brokers import compose, recorded
from orchestrator.brokers.install.cache import cache_root
from orchestrator.brokers.install.distribution import find_kafka
from orchestrator.brokers.install.java import find_java
from orchestrator.brokers.ports import is_free
from orchestrator.config.model import KafkaSettings, Pipeline, state_dir_of
from orchestrator.errors import BrokerError, KpipeError, UsageError
from orchestrator.operations.control import running
from orchestrator.operations.loading import read_files
from orchestrator.outside import shown
from orchestrator.state import StateError, check_own, existing

if TYPE_CHECKING:
    from orchestrator.config import Loaded

State = Literal["ok", "warning", "problem"]

_OLDEST_PYTHON = (3, 11)
#: Bytes of free disk below which a local Kafka cannot work, or soon will not.
_TOO_LITTLE, _LITTLE = 500_000_000, 2_000_000_000
#: Open files that Kafka and a few handlers need with some room to grow.
_FEW_FILES = 1024


@dataclass(frozen=True, slots=True)
class Check:
    """What was found. `fix` is "" where there is nothing to do; a `problem` keeps the pipeline from running."""

    name: str
    state: State
    message: str
    fix: str = ""


def examine(files: Sequence[Path], read: Callable[[], Loaded] | None = None) -> Iterator[Check]:
    """All checks of this machine and of a project, one after the other: some ask other programs and take a moment.

    `files` are the pipeline file and its overlays; they need not be there. `read` reads them, and raises UsageError
    when one is missing.
    """
    folder = state_dir_of(files[0].absolute().parent, os.environ)
    yield python()
    pipeline, check = pipeline_file(files, read or (lambda: read_files(files)))
    yield check
    yield state(folder)
    yield broker(folder, pipeline)
    own = pipeline is None or not pipeline.kafka.bootstrap
    yield java(needed=own)
    yield kafka(needed=own)
    yield from ports(folder, pipeline)
    yield from disk(folder)
    yield docker()
    yield file_limit()


def python() -> Check:
    """The interpreter that runs kpipe, and the handlers too."""
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        return Check("python", "problem", said, "install Python 3.11 or later")
    return Check("python", "ok", said)


def pipeline_file(files: Sequence[Path], read: Callable[[], Loaded]) -> tuple[Pipeline | None, Check]:
    """Whether the file is there and valid."""
    try:
        loaded = read()
    except UsageError as missing:
        return None, Check("pipeline", "warning", missing.message, "`kpipe init` makes one, or name it: kpipe -f FILE")
    errors = sum(finding.severity == "error" for finding in loaded.findings)
    if loaded.pipeline is None:
        said = f"{errors} error{'' if errors == 1 else 's'} in {files[0]}"
        return None, Check("pipeline", "problem", said, "`kpipe validate` lists them")
    made = loaded.pipeline
    said = f"{files[0]}: {len(made.topics)} topics, {len(made.handlers)} handlers"
    return made, Check("pipeline", "ok", said)


def state(path: Path) -> Check:
    """Whether the folder for kpipe's state, if it is there, is this user's own."""
    try:
        folder = existing(path)
        if folder is not None:
            with folder:
                check_own(folder)
    except StateError as problem:
        return Check("state", "problem", problem.message, problem.hint)
    return Check("state", "ok", f"{path}" if folder is not None else f"{path} is made by `kpipe up`")


def broker(folder: Path, pipeline: Pipeline | None) -> Check:
    """Whether the Kafka that is named, or was started, answers."""
    settings = pipeline.kafka if pipeline else KafkaSettings()
    try:
        record = recorded(folder)
    except StateError:  # which is a check of its own
        record = None
    address = settings.bootstrap or (record.address if record else "")
    if not address:
        return Check("broker", "ok", "none runs; `kpipe up` starts one")
    why = _no_answer(settings, address)
    if why is None:
        return Check("broker", "ok", f"Kafka answers at {shown(address)}")
    if settings.bootstrap:
        return Check("broker", "problem", why.message, why.hint)
    return Check("broker", "problem", why.message, "`kpipe broker stop`, then `kpipe up` or `kpipe broker start`")


def _no_answer(settings: KafkaSettings, address: str) -> KpipeError | None:
    from orchestrator.kafka.clients import Clients

    try:
        Clients(settings, address).admin().cluster()
    except KpipeError as problem:
        return problem
    return None


def java(*, needed: bool) -> Check:
    """The Java for a local Kafka."""
    try:
        found = find_java(os.environ)
    except BrokerError as problem:
        return Check("java", "problem" if needed else "warning", problem.message, problem.hint)
    return Check("java", "ok", f"Java {found.major} at {found.path} ({found.source})")


def kafka(*, needed: bool) -> Check:
    """Kafka itself, for running it locally."""
    try:
        found = find_kafka(os.environ)
    except BrokerError as problem:
        return Check("kafka", "problem" if needed else "warning", problem.message, problem.hint)
    if found is not None:
        return Check("kafka", "ok", f"Kafka {found.version} in {found.libs}")
    if not needed:
        return Check("kafka", "ok", "not fetched, and not needed: the file names a Kafka")
    return Check("kafka", "warning", "not fetched yet", "`kpipe up` does it, or `kpipe broker fetch` now")


def ports(folder: Path, pipeline: Pipeline | None) -> Iterator[Check]:
    """The ports that services will listen on, unless it is they who do."""
    if pipeline is None or _runs(folder):
        return
    for handler in pipeline.handlers.values():
        if handler.port is None:
            continue
        if is_free(handler.port):
            yield Check("port", "ok", f"{handler.port} is free for {handler.name}")
        else:
            fix = f"end what listens there (`lsof -i :{handler.port}` names it), or change the handler's `port`"
            yield Check("port", "problem", f"{handler.port}, which {handler.name} needs, is in use", fix)


def _runs(folder: Path) -> bool:
    with contextlib.suppress(StateError):  # which is a check of its own
        return running(folder) is not None
    return False


def disk(state_dir: Path) -> Iterator[Check]:
    """Room for Kafka's data and logs, and for Kafka itself."""
    places = {"data": state_dir, "cache": cache_root(os.environ)}
    for what, folder in places.items():
        there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        free = shutil.disk_usage(there).free
        said = f"{free / 1e9:.1f} GB free for {folder}"
        state: State = "problem" if free < _TOO_LITTLE else "warning" if free < _LITTLE else "ok"
        if not os.access(there, os.W_OK):
            yield Check("disk", "problem", f"{there} cannot be written", _elsewhere(what, there))
        else:
            yield Check("disk", state, said, "" if state == "ok" else _elsewhere(what, there))


def _elsewhere(what: str, there: Path) -> str:
    if what == "cache":
        return f"make room, or let KPIPE_CACHE name another folder than {there}"
    return "make room, or move the project"


def docker() -> Check:
    """Docker, which only `--kafka docker` needs."""
    try:
        compose.check_engine(os.environ)
    except BrokerError as problem:
        return Check("docker", "warning", f"{problem.message} (only `--kafka docker` needs it)", problem.hint)
    return Check("docker", "ok", "Docker answers, with compose")


def file_limit() -> Check:
    """How many files one process may have open: a broker has several for every partition."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        fix = f"`ulimit -n 10240` in the shell that starts kpipe (up to {most} are allowed)"
        return Check("open files", "warning", f"at most {soft}", fix)
    return Check("open files", "ok", "unlimited" if soft == resource.RLIM_INFINITY else f"at most {soft}")
