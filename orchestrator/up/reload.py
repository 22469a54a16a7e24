"""`kpipe up --watch`: what changes in the project's folder is put into effect, or said to be wrong and left alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.model import Pipeline
from orchestrator.config.reading import MAX_SOURCE, Reach
from orchestrator.errors import FindingsError, KpipeError
from orchestrator.supervisor import events
from orchestrator.supervisor.background import in_background
from orchestrator.supervisor.events import Fact
from orchestrator.up import child_specs
from orchestrator.up.affected import SOURCES, AffectedHandlers, changed_handlers
from orchestrator.up.project_files import read_again
from orchestrator.up.replicas import Replicas

#: Folders that hold no source, besides hidden ones.
_NOT_OURS = frozenset({"__pycache__", "node_modules", "venv"})


@dataclass(frozen=True)
class Reloader:
    """Follows the files of one `up`. `files` are absolute; `named` are the handlers that `up` was asked for, none: all.

    `adopt` makes topics and everything else but the handlers fit the new pipeline; it may raise `KpipeError`.
    """

    files: tuple[Path, ...]
    named: Collection[str]
    fleet: Replicas
    hear: Callable[[Fact], None]
    adopt: Callable[[Pipeline, Pipeline], Awaitable[None]]

    async def run(self, pipeline: Pipeline) -> None:
        """For ever: put what changes into effect. `pipeline` is what runs."""
        concern = await in_background(lambda: AffectedHandlers(pipeline, self.files))
        said = ""
        async for paths in _changes(pipeline.base, self.files):
            try:
                pipeline, concern = await self._heed(pipeline, concern, paths)
                said = ""
            except KpipeError as error:
                why = _why(error)
                if why != said:  # a file that is being mended is written many times
                    self.hear(events.NotReloaded(self.files[0].name, why))
                said = why

    async def _heed(
        self, old: Pipeline, before: AffectedHandlers, paths: frozenset[Path]
    ) -> tuple[Pipeline, AffectedHandlers]:
        new, now = await in_background(lambda: self._read(old))
        touched: dict[str, Path] = {}
        for path in sorted(paths):
            # What belonged to a handler before, too: the file may be gone.
            for name in (*before.handlers_of(path), *now.handlers_of(path)):
                touched.setdefault(name, path)
        # What failed may have needed anything.
        if sources := [path for path in sorted(paths) if path.suffix in SOURCES | {".py"}]:
            touched |= {name: sources[0] for name in self.fleet.failed if name not in touched}
        wanted = {name: h for name, h in new.handlers.items() if not self.named or name in self.named}
        await in_background(lambda: _check(new, now, [name for name in touched if name in wanted]))
        await self.adopt(old, new)
        because = {name: f"{_shown(path, new.base)} changed" for name, path in touched.items()}
        because |= dict.fromkeys(changed_handlers(old, new), "the pipeline file says so of `{}`")
        because |= {name: "it is new" for name in wanted if name not in old.handlers}
        because |= {name: "it is gone from the pipeline file" for name in self.fleet.handlers if name not in wanted}
        for name, why in because.items():
            if name in wanted or name in self.fleet.handlers:
                self.hear(events.Reloading(name, why.format(name)))
        self.fleet.adopt(new, wanted.values(), [name for name in because if name in wanted])
        return new, now

    def _read(self, old: Pipeline) -> tuple[Pipeline, AffectedHandlers]:
        new = read_again(self.files, old)
        return new, AffectedHandlers(new, self.files)


def _check(pipeline: Pipeline, concern: AffectedHandlers, names: Collection[str]) -> None:
    """What would not even start is not started. Raises `KpipeError`."""
    reach = Reach.of(pipeline.base, os.environ)
    for path in sorted({path for name in names for path in concern.python(name)}):
        _compile(path, reach)
    for name in names:
        child_specs.check_module(pipeline.handlers[name], pipeline, os.environ)


def _compile(path: Path, reach: Reach) -> None:
    try:
        compile(reach.read(path, MAX_SOURCE), str(path), "exec", dont_inherit=True)
    except OSError:
        return  # gone: whoever imports it says so
    except (SyntaxError, ValueError) as error:
        line, column = getattr(error, "lineno", 0) or 0, getattr(error, "offset", 0) or 0
        raise KpipeError(f"{path}:{line}:{column}: {getattr(error, 'msg', error)}") from error


def _why(error: KpipeError) -> str:
    if isinstance(error, FindingsError):
        return "\n".join(finding.text() for finding in error.errors)
    return f"{error.message}{f' ({error.hint})' if error.hint else ''}"


def _shown(path: Path, base: Path) -> str:
    try:
        return str(path.relative_to(base.resolve()))
    except ValueError:
        return str(path)


async def _changes(base: Path, files: Collection[Path]) -> AsyncIterator[frozenset[Path]]:
    """What has changed, some at a time, absolute and resolved.

    Folders are watched one by one, so that nothing wakes us for what Kafka writes under .kpipe.
    """
    from watchfiles import DefaultFilter, awatch

    keep = DefaultFilter()
    folders = await in_background(lambda: frozenset(_folders(base, files)))
    while True:
        stop = asyncio.Event()
        async for changes in awatch(*sorted(folders), recursive=False, watch_filter=keep, stop_event=stop):
            paths = {Path(name).resolve() for _, name in changes}
            now = await in_background(lambda: frozenset(_folders(base, files)))
            # What was put into a new folder before it was watched, nobody tells.
            paths |= {path.resolve() for folder in now - folders for path in folder.iterdir()}
            yield frozenset(path for path in paths if not path.is_dir())
            if now != folders:
                folders = now
                stop.set()


def _folders(base: Path, files: Collection[Path]) -> Iterator[Path]:
    yield from {path.parent for path in files}
    for at, inside, _ in os.walk(base):
        inside[:] = [name for name in inside if not name.startswith(".") and name not in _NOT_OURS]
        yield Path(at)
