"""From a pipeline to the children that run it: argv, environment, pipes, and the order of starting and stopping."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import pathsep
from pathlib import Path

import orjson

from orchestrator.config import portable
from orchestrator.config.model import Handler, Pipeline
from orchestrator.environment import PROXIES, small
from orchestrator.errors import HandlerError, UsageError
from orchestrator.outside import Outside, masked, shown
from orchestrator.supervisor import ports
from orchestrator.supervisor.spec import ChildSpec, Probe
from orchestrator.targets import Target
from orchestrator.text import did_you_mean
from orchestrator.up.publish_endpoint import PublishEndpoint
from orchestrator.up.start_order import stages

_PYTHONS = ("python", "python3")


@dataclass(frozen=True)
class Surroundings:
    """What children share: the pipeline with its schemas, its files (absolute), Kafka's address, our own environment,
    the endpoint at which services publish, and our control socket.
    """

    pipeline: Pipeline
    files: tuple[Path, ...]
    bootstrap: str
    environ: Mapping[str, str]
    publishing: PublishEndpoint | None = None
    control: Path | None = None

    @cached_property
    def packed(self) -> bytes:
        """The pipeline for other processes, as JSON: encoded once, since schemas can have megabytes."""
        return json.dumps(portable(self.pipeline)).encode()


def chosen(pipeline: Pipeline, names: Sequence[str]) -> tuple[Handler, ...]:
    """The named handlers in the file's order; all of them without names. Raises `UsageError`."""
    for name in names:
        if name not in pipeline.handlers:
            hint = did_you_mean(name, pipeline.handlers) or f"it has {', '.join(pipeline.handlers)}"
            raise UsageError(f"the pipeline file declares no handler `{name}`", hint)
    return tuple(handler for handler in pipeline.handlers.values() if not names or handler.name in names)


def children(handlers: Sequence[Handler], around: Surroundings) -> tuple[ChildSpec, ...]:
    """One child per replica."""
    stage = stages(around.pipeline)
    return tuple(
        _service(handler, around, name, slot, stage[handler.name])
        if handler.kind == "service"
        else _worker(handler, around, name, slot, stage[handler.name])
        for handler in handlers
        for slot, name in enumerate(names(handler))
    )


def check_before_start(handlers: Sequence[Handler], pipeline: Pipeline, environ: Mapping[str, str]) -> None:
    """What can be known to fail before anything is started. Raises `HandlerError`."""
    for handler in handlers:
        check_module(handler, pipeline, environ)
        if handler.port is not None and ports.in_use(handler.port):
            holder = ports.holder(handler.port)
            raise HandlerError(
                f"port {handler.port} of `{handler.name}` is already in use{f' by {holder}' if holder else ''}",
                "stop what uses it, or give the handler another `port`",
            )


def check_module(handler: Handler, pipeline: Pipeline, environ: Mapping[str, str]) -> None:
    """Whether Python finds what the handler names. Raises `HandlerError`."""
    if handler.kind == "service":
        _check_module(handler, _argv(handler), pipeline.base, {**environ, **handler.env})
    elif handler.kind == "python":
        _check_function(handler, pipeline.base, {**environ, **handler.env})


def names(handler: Handler) -> list[str]:
    """The names of its replicas: the handler's own when it has one."""
    # No handler's name has a dot, so a replica never has the name of another handler.
    return [handler.name] if handler.replicas == 1 else [f"{handler.name}.{slot}" for slot in range(handler.replicas)]


def _worker(handler: Handler, around: Surroundings, name: str, slot: int, stage: int) -> ChildSpec:
    config = {
        "pipeline": orjson.Fragment(around.packed),
        "bootstrap": around.bootstrap,
        "handler": handler.name,
        "slot": slot,
    }
    return ChildSpec(
        name, Target.WORKER.argv, around.pipeline.base, _environment(handler, around), group=handler.name, slot=slot,
        config=orjson.dumps(config), reports=True, stage=stage, stop_timeout=handler.stop_timeout,
        # A worker drains with whatever it started still alive.
        signal_group=False, restart=handler.restart, essential=handler.essential,
    )  # fmt: skip


def _service(handler: Handler, around: Surroundings, name: str, slot: int, stage: int) -> ChildSpec:
    env = _environment(handler, around)
    if around.publishing is not None:
        env = {**env, **around.publishing.env(handler)}
    leading = [str(around.pipeline.base), *filter(None, [env.get("PYTHONPATH")])]
    if handler.port is not None:
        # What process managers and hosting platforms set, and servers look for.
        env["PORT"] = handler.env.get("PORT", str(handler.port))
    return ChildSpec(
        name, _argv(handler), around.pipeline.base, {**env, "PYTHONPATH": pathsep.join(leading)}, group=handler.name,
        slot=slot, probe=Probe(port=handler.port, path=handler.ready.http), port=handler.port, stage=stage,
        stop_timeout=handler.stop_timeout, restart=handler.restart, essential=handler.essential,
    )  # fmt: skip


def _environment(handler: Handler, around: Surroundings) -> dict[str, str]:
    """What it gets of ours, what `orchestrator.Publisher` looks for, and the handler's own `env` on top."""
    env = _inherited(handler, around.environ)
    if around.control is not None:
        env["KPIPE_CONTROL_SOCKET"] = str(around.control)
    if sys.prefix != sys.base_prefix:
        # kpipe in a virtual environment that nobody activated: its programs are those of the handlers, too.
        env["PATH"] = pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    return {
        **env,
        "PYTHONUNBUFFERED": "1",  # else Python keeps what is printed until it has 8 KB of it
        "KPIPE_PIPELINE_FILES": pathsep.join(map(str, around.files)),
        "KPIPE_BOOTSTRAP": around.bootstrap,
        "KPIPE_HANDLER": handler.name,
        **handler.env,
    }


def _inherited(handler: Handler, environ: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that the handler's process gets."""
    if handler.inherit_env is True:
        return dict(environ)
    proxies = PROXIES if handler.kind == "http" else ()
    return small(environ, (*(handler.inherit_env or ()), *proxies))


def _argv(handler: Handler) -> tuple[str, ...]:
    """The words of a service's command, as a shell would split them; `python` is the one that runs kpipe."""
    words = shlex.split(handler.target) if isinstance(handler.target, str) else list(handler.target)
    if isinstance(handler.target, Outside):
        words = [Outside(word, handler.target.written) for word in words]
    return (sys.executable if words[0] in _PYTHONS else words[0], *words[1:])


def _check_module(handler: Handler, argv: Sequence[str], base: Path, environ: Mapping[str, str]) -> None:
    """`python -m module` and `python file.py` that name nothing: Python would say so five times, and late."""
    if argv[0] != sys.executable or len(argv) < 2:
        return
    if argv[1] == "-m" and len(argv) > 2 and not _has_module(argv[2], base, environ):
        raise HandlerError(
            f"`{handler.name}` could not start: there is no module {shown(argv[2])}",
            f"check the `service` of `{handler.name}`; modules are looked for in {base} first",
        )
    if argv[1].endswith(".py") and not (base / argv[1]).is_file():
        raise HandlerError(f"`{handler.name}` could not start: there is no file {shown(argv[1])}")


def _check_function(handler: Handler, base: Path, environ: Mapping[str, str]) -> None:
    """The worker would say the same, but only when Kafka runs and the topics are made."""
    target = handler.target if isinstance(handler.target, str) else ""
    module = target.partition(":")[0]
    if not _has_module(module, base, environ):
        raise HandlerError(
            f"`{handler.name}` could not start: there is no module {masked(module, [target])}",
            f"check `python: {shown(target)}`; modules are looked for in {base} first",
        )


def _has_module(name: str, base: Path, environ: Mapping[str, str]) -> bool:
    """Whether Python would find it, without importing anything of it; true when that cannot be told."""
    from importlib.machinery import PathFinder

    places = [str(base), *filter(None, environ.get("PYTHONPATH", "").split(pathsep)), *sys.path]
    top, *rest = name.split(".")
    others = (finder.find_spec(top, None) for finder in sys.meta_path if finder is not PathFinder)
    found = PathFinder.find_spec(top, places) or next(filter(None, others), None)
    try:
        for part in rest:
            if found is None or found.submodule_search_locations is None:
                return False
            found = PathFinder.find_spec(f"{found.name}.{part}", list(found.submodule_search_locations))
    except KeyError:  # a namespace package in a namespace package: its place is only known once it is imported
        return True
    return found is not None
