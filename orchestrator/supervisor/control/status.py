"""What a running `kpipe up` says of itself, as values: the answers of the control API (docs/control-api.md).

`to_json` gives the API's JSON, `from_json` reads it. A reader ignores members that it does not know, and takes a
default for optional ones that are missing: client and `up` may be of different versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from typing import Any, Self, TypeVar

from orchestrator.supervisor.control.client import NoAnswer

T = TypeVar("T", bound="_Status")


class WrongStatus(NoAnswer):
    """An answer that is none of the control API."""


@dataclass(frozen=True)
class _Status:
    """A value with the members of a JSON object."""

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Raises `WrongStatus` where a required member is missing, or a member has another type."""
        if not isinstance(body, Mapping):
            raise WrongStatus(f"not a {cls.__name__}: {type(body).__name__}")
        missing = [field.name for field in fields(cls) if field.default is MISSING and field.name not in body]
        if missing:
            raise WrongStatus(f"a {cls.__name__} without {', '.join(missing)}")
        return cls(**{field.name: cls._read(field, body[field.name]) for field in fields(cls) if field.name in body})

    @classmethod
    def _read(cls, field: Field[Any], value: Any) -> Any:
        """The value of one member. What a type is called in the class decides what JSON may have there."""
        if not any(_is(value, kind) for kind in str(field.type).split(" | ")):
            raise WrongStatus(f"a {cls.__name__} whose {field.name} is {value!r:.60}")
        return value

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _is(value: Any, kind: str) -> bool:
    """Whether JSON's `value` is of a type that is called so. True and False are no numbers."""
    match kind:
        case "None":
            return value is None
        case "str":
            return isinstance(value, str)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "Mapping[str, int]":
            return isinstance(value, Mapping) and all(_is(count, "int") for count in value.values())
        case _:
            raise TypeError(kind)


def _each(kind: type[T], value: Any) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise WrongStatus(f"not a list of {kind.__name__}: {type(value).__name__}")
    return tuple(map(kind.from_json, value))


@dataclass(frozen=True)
class ReplicaStatus(_Status):
    """One process. `up_seconds`: since it was started, None when none runs."""

    name: str
    slot: int | None
    state: str
    pid: int | None
    restarts: int
    up_seconds: float | None


@dataclass(frozen=True)
class HandlerStatus(_Status):
    """One handler with all its replicas.

    None stands for what is not known, or not counted: services count no events. Rates are events a second, `lag` is in
    events, `lag_seconds` the age of the oldest that waits. `accounting` has `in`, `done`, `dead_lettered`, `skipped`
    and `in_flight`.
    """

    name: str
    state: str
    replicas: int
    ready: int
    restarts: int
    up_seconds: float | None = None
    in_per_second: float | None = None
    out_per_second: float | None = None
    lag: int | None = None
    lag_seconds: float | None = None
    partitions: int | None = None
    paused: int = 0
    breaker: str | None = None
    accounting: Mapping[str, int] | None = None
    last_error: str | None = None
    instances: tuple[ReplicaStatus, ...] = ()

    @classmethod
    def _read(cls, field: Field[Any], value: Any) -> Any:
        return _each(ReplicaStatus, value) if field.name == "instances" else super()._read(field, value)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "instances": [replica.to_json() for replica in self.instances]}


@dataclass(frozen=True)
class PipelineStatus(_Status):
    """A running `up`. `since` is ISO 8601; `phase` is `starting`, `running` or `stopping`."""

    pid: int
    since: str
    pipeline: str
    bootstrap: str
    phase: str
    handlers: tuple[HandlerStatus, ...]

    @classmethod
    def _read(cls, field: Field[Any], value: Any) -> Any:
        return _each(HandlerStatus, value) if field.name == "handlers" else super()._read(field, value)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "handlers": [handler.to_json() for handler in self.handlers]}


@dataclass(frozen=True)
class StopStatus(_Status):
    """The answer to `POST /v1/down`: it stops, and that takes at most `within` seconds."""

    stopping: bool
    within: float
