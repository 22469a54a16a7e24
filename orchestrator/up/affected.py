"""Which handlers a change of the project concerns: by their files, and by what the pipeline file says of them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from orchestrator.config.model import Handler, Pipeline
from orchestrator.up.python_imports import files_of, module_files

#: What programs in other languages are written in, and what such programs read at their start.
SOURCES = frozenset(
    (
        *(".c", ".cc", ".cpp", ".h", ".hpp", ".cs", ".dart", ".go", ".java", ".jl", ".kt", ".rs", ".swift", ".zig"),
        *(".clj", ".erl", ".ex", ".exs", ".lua", ".php", ".pl", ".rb", ".sh", ".sql"),
        *(".cjs", ".js", ".jsx", ".mjs", ".ts", ".tsx", ".css", ".html", ".tmpl"),
        *(".conf", ".env", ".ini", ".properties", ".toml", ".yaml", ".yml"),
    )
)


class AffectedHandlers:
    """What belongs to whom, as it was when this was made."""

    def __init__(self, pipeline: Pipeline, files: Collection[Path]) -> None:
        """`files` are the pipeline files, which belong to nobody: what changed in them is found by comparing."""
        self._pipeline = pipeline
        self._files = {path.resolve() for path in files}
        self._base = pipeline.base.resolve()
        self._python = {name: self._modules(handler) for name, handler in pipeline.handlers.items()}
        self._schemas = {name: set(self._contracts(handler)) for name, handler in pipeline.handlers.items()}

    def handlers_of(self, path: Path) -> list[str]:
        """The handlers that run differently once `path`, absolute and resolved, has changed."""
        return [name for name in self._pipeline.handlers if self._concerns(path, name)]

    def python(self, name: str) -> frozenset[Path]:
        """The Python files of a handler; none for a program in another language."""
        return self._python[name]

    def _concerns(self, path: Path, name: str) -> bool:
        handler, files = self._pipeline.handlers[name], self._python[name]
        if path in files or (path.parent in self._schemas[name] and path.suffix == ".json"):
            return True
        foreign = handler.kind in ("exec", "service") and not files
        return foreign and path.suffix in SOURCES and path not in self._files

    def _modules(self, handler: Handler) -> frozenset[Path]:
        base = self._base
        if handler.kind == "python":
            return files_of(module_files(str(handler.target).partition(":")[0], base), base)
        if handler.kind == "http":
            return frozenset()
        # `python -m module`, `python file.py`, `uvicorn module:app`: what of its words names files of the project.
        words = shlex.split(handler.target) if isinstance(handler.target, str) else handler.target
        named = [path for word in words if word.endswith(".py") and (path := base / word).is_file()]
        modules = [path for word in words[1:] for path in module_files(word.partition(":")[0], base)]
        return files_of([*named, *modules], base)

    def _contracts(self, handler: Handler) -> Iterator[Path]:
        """The folders of its schemas: a schema may refer to others beside it."""
        for topic in (*handler.consumes, *handler.produces):
            schema = self._pipeline.topics[topic].schema
            if schema is not None:
                yield (self._base / schema).resolve().parent


def changed_handlers(old: Pipeline, new: Pipeline) -> list[str]:
    """The handlers of both that are to run differently. How many replicas there are is no difference."""
    return [name for name in new.handlers if name in old.handlers and _essence(old, name) != _essence(new, name)]


def _essence(pipeline: Pipeline, name: str) -> object:
    handler = pipeline.handlers[name]
    topics = [*handler.consumes, *handler.produces, *pipeline.dlqs_of(handler)]
    # Of several handlers of a topic the first in the file writes the letters of what breaks its contract.
    first = [pipeline.handlers_of(topic)[0].name for topic in handler.consumes]
    contracts = [(pipeline.schemas or {}).get(str(pipeline.topics[topic].schema)) for topic in topics]
    return replace(handler, replicas=1), [pipeline.topics[topic] for topic in topics], contracts, first
