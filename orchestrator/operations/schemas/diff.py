"""Every contract of a pipeline beside its earlier version: what changed, what that breaks, and whom it hits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline, Topic
    from orchestrator.contracts.evolution.compatibility import Compatibility, Level
    from orchestrator.contracts.evolution.inclusion import Misfit
    from orchestrator.operations.schemas.versions import Version

State = Literal["same", "changed", "new", "removed"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One topic's contract. `earlier` is its resolved earlier schema (None: there was none)."""

    topic: str
    schema: str
    state: State
    compatibility: Compatibility
    consumers: tuple[str, ...]
    producers: tuple[str, ...]
    earlier: Any = field(default=None, repr=False)

    def breaks(self, level: Level, strict: bool) -> tuple[Misfit, ...]:
        return self.compatibility.breaks(level, strict=strict)

    def as_json(self) -> dict[str, Any]:
        both = {"backward": self.compatibility.backward, "forward": self.compatibility.forward}
        return {
            "topic": self.topic,
            "schema": self.schema,
            "state": self.state,
            "consumers": self.consumers,
            "producers": self.producers,
            **{
                name: {
                    "compatible": not any(one.certain for one in found),
                    "breaks": [_plain(one) for one in found if one.certain],
                    "assumptions": [_plain(one) for one in found if not one.certain],
                }
                for name, found in both.items()
            },
        }


def _plain(one: Misfit) -> dict[str, str]:
    return {"path": one.path, "reason": one.reason}


def compare_contracts(pipeline: Pipeline, files: Sequence[Path], version: Version) -> list[Compared]:
    """The topics that have a contract, or had one in `version`, in the file's order. Raises UsageError.

    `files` are the pipeline file and its overlays. A contract is compared with the one that the topic had: a schema
    that was moved is not a new one.
    """
    earlier = _earlier_schemas(pipeline, files, version)
    schemas = _Schemas(pipeline, version)
    compared = [_compared(pipeline, topic, earlier, schemas) for topic in pipeline.topics.values()]
    return [one for one in compared if one is not None]


class _Schemas:
    """Both versions of the schemas of a pipeline: read once, compared once, within one budget."""

    def __init__(self, pipeline: Pipeline, version: Version) -> None:
        from orchestrator.contracts.evolution.inclusion import steps
        from orchestrator.contracts.resolve import values
        from orchestrator.contracts.sources import files_of

        self._version = version
        self._files = files_of(pipeline.base)
        self._kept = values(), values()
        self._steps = steps()
        self._earlier: dict[Path, Any] = {}
        self._now: dict[Path, Any] = {}
        self._compared: dict[tuple[Path, Path | None], Compatibility] = {}

    def now(self, path: Path) -> Any:
        """The schema as it is, resolved."""
        from orchestrator.contracts.resolve import resolved

        if path not in self._now:
            self._now[path] = resolved(path, self._files, self._kept[0])
        return self._now[path]

    def earlier(self, path: Path) -> Any:
        """As it was, resolved; None where the version has no such file. Raises UsageError."""
        from orchestrator.contracts.resolve import resolved

        if path not in self._earlier:
            try:
                self._earlier[path] = resolved(path, self._version, self._kept[1])
            except FileNotFoundError:
                self._earlier[path] = None
            except (OSError, ValueError) as problem:
                reason = getattr(problem, "strerror", None) or problem
                raise UsageError(
                    f"the schema {path.name} of {self._version.name} cannot be read: {reason}",
                    "compare with another version",
                ) from None
        return self._earlier[path]

    def compare(self, old: Path, new: Path | None) -> Compatibility:
        """What the change of a contract breaks; `new` is None where it was taken away."""
        from orchestrator.contracts.evolution.compatibility import compare

        if (old, new) not in self._compared:
            later = None if new is None else self.now(new)
            self._compared[old, new] = compare(self.earlier(old), later, self._steps)
        return self._compared[old, new]


def _earlier_schemas(pipeline: Pipeline, files: Sequence[Path], version: Version) -> dict[str, str | None]:
    from orchestrator.config.loading import schema_paths

    texts = []
    for file in files:
        try:
            texts.append(version.read(file.absolute()))
        except OSError:
            continue  # a folder with schemas only, or a file that is new
    return schema_paths(texts)


def _compared(pipeline: Pipeline, topic: Topic, earlier: dict[str, str | None], schemas: _Schemas) -> Compared | None:
    from orchestrator.contracts.evolution.compatibility import Compatibility

    named = earlier.get(topic.name, None if topic.name in earlier else topic.schema)
    was = None if named is None else pipeline.base / named
    old = None if was is None else schemas.earlier(was)
    if topic.schema is None and old is None:
        return None
    new = None if topic.schema is None else schemas.now(topic.schema)
    state: State = "new" if old is None else "removed" if new is None else "same" if old == new else "changed"
    return Compared(
        topic.name,
        _shown(topic.schema or Path(str(named)), pipeline.base),
        state,
        schemas.compare(was, topic.schema) if was and state in ("changed", "removed") else Compatibility(),
        tuple(handler.name for handler in pipeline.handlers_of(topic.name)),
        tuple(handler.name for handler in pipeline.handlers.values() if topic.name in handler.produces),
        old,
    )


def _shown(path: Path, base: Path) -> str:
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)


def lines(one: Compared, level: Level, strict: bool) -> Iterator[str]:
    """One contract as text: what breaks, what is only assumed, and whom it hits."""
    yield f"{one.topic}  {one.schema}  {_verdict(one, level, strict)}"
    told = {
        "backward": "events that keep the earlier contract, under the new one:",
        "forward": "events that keep the new contract, under the earlier one:",
    }
    for direction, heading in told.items():
        found: tuple[Misfit, ...] = getattr(one.compatibility, direction)
        if found:
            yield f"  {direction}: {heading}"
        for misfit in found:
            yield f"    {misfit.path}  {misfit.reason}{'' if misfit.certain else ' (assumed: it is not there)'}"
    if one.compatibility.breaks("full", strict=strict):
        if one.consumers:
            yield f"  hits the handlers that consume it: {', '.join(one.consumers)}"
        if one.producers:
            yield f"  hits the handlers that produce it: {', '.join(one.producers)}"


def _verdict(one: Compared, level: Level, strict: bool) -> str:
    if one.state in ("same", "new"):
        return {"same": "unchanged", "new": "new: nothing to compare it with"}[one.state]
    back, ahead = (not one.breaks(level_, strict) for level_ in _BOTH)
    kept = "full" if back and ahead else "backward" if back else "forward" if ahead else "none"
    word = "removed" if one.state == "removed" else "changed"
    return f"{word}, compatibility kept: {kept}{'' if not one.breaks(level, strict) else f' ({level} is required)'}"


_BOTH: tuple[Level, Level] = ("backward", "forward")
