"""Every contract of a pipeline beside its earlier version: what changed, what that breaks, and whom it hits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.versions import Version
    from orchestrator.config.model import Pipeline, Topic
    from orchestrator.contracts.compatibility import Compatibility, Level
    from orchestrator.contracts.inclusion import Misfit

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
    compared = [_compared(pipeline, topic, earlier, version) for topic in pipeline.topics.values()]
    return [one for one in compared if one is not None]


def _earlier_schemas(pipeline: Pipeline, files: Sequence[Path], version: Version) -> dict[str, str | None]:
    from orchestrator.config.loading import schema_paths

    texts = []
    for file in files:
        try:
            texts.append(version.read(file.absolute()))
        except OSError:
            continue  # a folder with schemas only, or a file that is new
    return schema_paths(texts)


def _compared(pipeline: Pipeline, topic: Topic, earlier: dict[str, str | None], version: Version) -> Compared | None:
    from orchestrator.contracts.compatibility import Compatibility, compare
    from orchestrator.contracts.resolve import resolved

    named = earlier.get(topic.name, None if topic.name in earlier else topic.schema)
    old = None if named is None else _resolved_earlier(pipeline.base / named, version)
    if topic.schema is None and old is None:
        return None
    new = None if topic.schema is None else resolved(pipeline.base / topic.schema)
    state: State = "new" if old is None else "removed" if new is None else "same" if old == new else "changed"
    return Compared(
        topic.name,
        _shown(topic.schema or Path(str(named)), pipeline.base),
        state,
        compare(old, new) if state in ("changed", "removed") else Compatibility(),
        tuple(handler.name for handler in pipeline.handlers_of(topic.name)),
        tuple(handler.name for handler in pipeline.handlers.values() if topic.name in handler.produces),
        old,
    )


def _resolved_earlier(path: Path, version: Version) -> Any:
    """None where `version` has no such file."""
    from orchestrator.contracts.resolve import resolved

    try:
        return resolved(path, version)
    except FileNotFoundError:
        return None
    except ValueError as problem:
        raise UsageError(
            f"the schema {path.name} of {version.name} cannot be read: {problem}", "compare with another version"
        ) from None


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
